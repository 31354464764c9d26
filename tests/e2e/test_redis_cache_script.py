"""`test_redis_cache.py` run with the whole service."""

from pathlib import Path

import pytest

from app.embedded.ports import free_port
from harness.service import Service

SCRIPT = "test_redis_cache.py"


@pytest.mark.parametrize("decode", ["true", "false"])
async def test_all_checks_pass_and_leave_no_rows(service: Service, decode: str) -> None:
    ended = await service.run(SCRIPT, variables={"REDIS_DECODE_RESPONSES": decode})
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("✓") == 14 and "✗" not in ended.out
    assert ended.out.count("median") == 4
    assert await service.total("users") == await service.total("products") == 0


async def test_another_redis_database_fails_the_checks(service: Service) -> None:
    ended = await service.run(SCRIPT, variables={"REDIS_DB": "9"})
    assert ended.code == 1
    assert "✗" in ended.out and "REDIS_DB" in ended.out
    assert await service.total("users") == await service.total("products") == 0


async def test_a_service_that_is_not_running_is_reported_in_one_line(
    service: Service, tmp_path: Path
) -> None:
    nowhere = str(free_port())
    for wrong, told in (
        ({"DATA_DIR": str(tmp_path), "REDIS_PORT": nowhere}, "REDIS_HOST"),
        ({"API_URL": f"http://localhost:{nowhere}"}, "API_URL"),
    ):
        ended = await service.run(SCRIPT, variables=wrong, seconds=20)
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1), ended
        assert told in ended.err
