"""LOG_ORDINARY_REQUESTS: what is not ordinary keeps its line, and nothing goes uncounted."""

import json
from pathlib import Path
from typing import Any

from harness.service import one_command

_ASKED = 30


async def test_of_many_reads_few_are_written(tree: Path, tmp_path: Path) -> None:
    async with one_command(tree, tmp_path, LOG_ORDINARY_REQUESTS="1", LOG_FORMAT="json") as service:
        for _ in range(_ASKED):
            assert (await service.api.get("/users")).status_code == 200
        assert (await service.api.get("/users/999")).status_code == 404
        jane = {"username": "jane", "email": "jane@example.com"}
        assert (await service.api.post("/users", json=jane)).status_code == 201
        await service.web.says('"method": "POST"')
        written = service.web.output.splitlines()
    lines: list[dict[str, Any]] = [json.loads(line) for line in written if line.startswith("{")]
    requests = [line for line in lines if line["message"] == "request"]
    statuses = [line["status"] for line in requests]
    assert (statuses.count(404), statuses.count(201)) == (1, 1)
    assert 1 <= statuses.count(200) < _ASKED
    assert statuses.count(200) + sum(line.get("left_out", 0) for line in requests) == _ASKED
