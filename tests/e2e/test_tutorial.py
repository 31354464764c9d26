"""The commands of the tutorial and of the how-to, executed in their order: each prints what the
page shows below it."""

import asyncio
import re
from pathlib import Path

import pytest

from app.settings import ROOT
from harness.processes import environment
from harness.service import PYTHON, Service, becomes_well, one_command

# Commands, and the output that follows them, if any.
_BLOCKS = re.compile(r"^```bash\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_START = "pip install uv && uv run main.py\n"
_VARIES = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[\d.]+"), "TIME"),
    (re.compile(r'(report_(?:date|at)":")[\d-]+'), r"\1DAY"),
    (re.compile(r"[\da-f]{32}"), "ID"),
    (re.compile(r"[-:][\da-f]{8}\b"), "-SENT"),
    (re.compile(r"(?<=applied │ )(product|order) \d"), r"\1 N"),
    (re.compile(r"localhost:\d+"), "HERE"),
    (re.compile(r"(?m)^\w+ +━.*\n"), ""),  # a bar of progress
]


def lines_of(text: str) -> list[str]:
    """Without what differs from run to run."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return [line.strip() for line in text.strip().splitlines()]


async def typed(commands: str, service: Service) -> str:
    """What a shell in the directory of the service prints."""
    commands = commands.replace("http://localhost:8000", service.url)
    commands = commands.replace("uv run python", str(PYTHON)).replace("curl ", "curl -sS ")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-c", commands),
        cwd=service.tree,
        env=environment({**service.variables, "COLUMNS": "100"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{commands}{output.decode()}"
    return output.decode()


@pytest.mark.parametrize("page", ["tutorial.md", "own-data.md"])
async def test_each_command_prints_what_the_page_shows(
    page: str, tree: Path, tmp_path: Path
) -> None:
    blocks = _BLOCKS.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert blocks
    async with one_command(tree, tmp_path) as service:
        for commands, shown in blocks:
            if commands == _START:
                assert set(lines_of(shown)) <= set(lines_of(service.web.output))
                continue
            if "/health/" in commands:
                await becomes_well(service.api)
            printed = await typed(commands, service)
            if shown:
                assert lines_of(printed) == lines_of(shown), printed
