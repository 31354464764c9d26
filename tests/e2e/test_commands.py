"""`python -m app` with the whole service in one process."""

import asyncio
import os
import pty
import re
import stat
from pathlib import Path

import pytest

from app.embedded.ports import free_port
from harness.processes import environment
from harness.service import PYTHON, Ended, Service
from harness.tree import copy_tree
from harness.waiting import eventually

ORDERS = ("-m", "app")


async def test_a_newcomer_starts_seeds_finds_and_sees_that_all_is_well(service: Service) -> None:
    seeded = await service.run(*ORDERS, "seed")
    assert (seeded.code, seeded.out.count("applied")) == (0, 8), seeded.err
    found = await service.script(*ORDERS, "find", "1")
    assert "order 1 (by id): pending" in found and "product 1 (by id): " in found
    message = re.findall(r"sample:order:\S+", seeded.out)[0]
    assert ", applied: order " in await service.script(*ORDERS, "find", message)
    built = await service.script(*ORDERS, "report", "build")
    assert "0 new rows, 0 in all" in built  # yesterday's
    assert "differ" not in await service.script(*ORDERS, "report", "check")
    assert "(found: the service runs)" in await well(service)


async def well(service: Service) -> str:
    """What the doctor says once it finds nothing wrong. On a busy machine an answer may be late."""
    told = ""

    async def is_well() -> bool:
        nonlocal told
        code, told, _ = await service.run(*ORDERS, "doctor")
        return code == 0

    await eventually(is_well, 60, lambda: told)
    assert told.endswith("\nNothing is wrong.\n")
    return told


async def test_the_doctor_names_dead_letters_and_how_to_look_at_them(service: Service) -> None:
    name = "one"
    await service.script("-c", _BURY.format(name))
    ill = await service.run(*ORDERS, "doctor")
    assert ill.code == 1
    assert (
        "product has dead letters, 1 in all: see why with `python -m app dead list product`"
        in ill.out
    )
    assert name in await service.script(*ORDERS, "dead", "list", "product")
    await service.script(*ORDERS, "dead", "drop", "product", "all")
    await well(service)


_BURY = """
import asyncio
from app.cli.configured import with_queues
from app.messaging.broker import Outgoing
from app.messaging.opening import open_broker
from app.settings import load_settings

async def main():
    broker = open_broker(with_queues(load_settings()))
    await broker.publish(Outgoing("product.dead", b"{{", "{}"))
    await broker.close()

asyncio.run(main())
"""


async def test_a_service_that_does_not_run_has_a_doctor_too(
    service: Service, tmp_path: Path
) -> None:
    nowhere = str(free_port())
    away = {"DB_HOST": "localhost", "DB_PORT": nowhere, "RABBITMQ_PORT": nowhere}
    away |= {"REDIS_PORT": nowhere, "API_URL": f"http://localhost:{nowhere}"}
    ill = await service.run(*ORDERS, "doctor", variables={**away, "DATA_DIR": str(tmp_path)})
    assert ill.code == 1 and "DB_HOST, DB_PORT in the environment" in ill.out
    for cure in ("see DATABASE_URL", "see REDIS_URL", "see RABBITMQ_HOST", "`python -m app web`"):
        assert ill.out.count(cure) == 1, ill.out
    assert "POSTGRES_PASSWORD has its default value" in ill.out and "Traceback" not in ill.err


async def in_tree(tree: Path, *words: str, **variables: str) -> Ended:
    """Without the settings of a running service."""
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        *words,
        cwd=tree,
        env=environment({"DATA_DIR": str(tree / "data"), "COLUMNS": "160", **variables}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_init_writes_settings_once_that_only_their_owner_reads(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    first = await in_tree(tree, *ORDERS, "init")
    assert first.code == 0 and "docker compose up" in first.out, first.err
    path = tree / ".env"
    text = path.read_text("utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    passwords = re.findall(r"^(?:# )?[A-Z_]*(?:PASSWORD|API_KEY)=(\S+)$", text, re.MULTILINE)
    assert len(set(passwords)) == 4 and all(len(password) == 32 for password in passwords)
    again = await in_tree(tree, *ORDERS, "init")
    assert again.code == 1 and "stays as it is" in again.err and path.read_text("utf-8") == text


async def test_a_misspelt_variable_of_the_env_file_is_named(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    nowhere = str(free_port())
    lines = (
        f"DB_HOST=localhost\nDB_PORT={nowhere}\nREDIS_PORT={nowhere}\nRABBITMQ_PORT={nowhere}",
    )
    (tree / ".env").write_text("\n".join([*lines, "POSTGRES_PASWORD=x", "PGADMIN_DEFAULT_EMAIL=x"]))
    told = (await in_tree(tree, *ORDERS, "doctor", API_URL=f"http://localhost:{nowhere}")).out
    assert "nothing reads POSTGRES_PASWORD of .env: if you mean POSTGRES_PASSWORD" in told
    assert "PGADMIN" not in told and "DB_HOST, DB_PORT in .env" in told


@pytest.mark.parametrize("command", [("main.py",), (*ORDERS, "up")])
async def test_the_start_in_a_terminal_says_what_it_waits_for(
    command: tuple[str, ...], tmp_path: Path, tree: Path
) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        *command,
        cwd=tree,
        env=environment({"DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port())}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    try:
        async with asyncio.timeout(60):
            while "Ctrl-C stops" not in shown:
                shown += (await asyncio.to_thread(os.read, ours, 4096)).decode()
    finally:
        process.terminate()
        await process.wait()
        os.close(ours)
    stages = ("loading ...", "Starting the servers in", "Bringing the tables", "API docs")
    places = [shown.index(stage) for stage in stages]
    assert places == sorted(places), shown
