"""The heartbeat of a process without a port: while it does what it is for, and only then."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from harness.rabbitmq import RabbitMQ
from harness.service import COMMANDS, Service
from harness.tree import copy_tree, edit
from harness.waiting import eventually

NAMES = ("worker", "taskiq_worker", "scheduler")


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its processes beat twice a second, not every five seconds."""
    tree = copy_tree(tmp_path_factory.mktemp("beating"))
    edit(tree, "app/runtime/loops.py", "return [(beat, 5)]", "return [(beat, 0.5)]")
    return tree


async def _is_still(files: Collection[Path]) -> bool:
    for file in files:
        file.unlink(missing_ok=True)
    await asyncio.sleep(2)  # longer than from one beat to the next
    return not any(file.exists() for file in files)


async def test_no_heartbeat_without_rabbitmq_and_no_end(
    processes: Service, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.heartbeat" for name in NAMES}
    started = [
        processes.process(name, *COMMANDS[name], HEARTBEAT_FILE=str(files[name])) for name in NAMES
    ]
    await rabbitmq.stop()
    try:
        for process in started:
            process.start()
        for process in started:
            await process.says("RABBITMQ_HOST", seconds=40)
        assert all(process.running for process in started)
        assert not any(file.exists() for file in files.values())
        await started[1].stop()  # a taskiq worker that waits ends too
        started[1].start()
        await rabbitmq.start()
        await eventually(lambda: all(file.exists() for file in files.values()), 40)
        await rabbitmq.stop()
        await eventually(lambda: _is_still([*files.values()]), 60)
        assert all(process.running for process in started)
    finally:
        await rabbitmq.start()
        for process in started:
            process.kill()
