from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.databases import Databases
from tests.faults.load import Load, prepare_load
from tests.faults.stack import Stack, stack_on


@pytest.fixture(scope="package")
async def stack(databases: Databases, tree: Path) -> AsyncIterator[Stack]:
    """Web processes that all cache tests share. Each test leaves them healthy."""
    async with databases.fresh() as url, stack_on(url, tree) as stack:
        yield stack


@pytest.fixture(scope="package")
async def load(stack: Stack) -> Load:
    return await prepare_load(stack)
