"""`python -m app`: what a newcomer sees, what a typo gets, and what is not imported for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.commands import commands
from app.settings import ROOT
from app.version import VERSION
from harness.processes import environment
from harness.tree import copy_tree

_HEAVY = ("alembic", "faststream", "litestar", "pydantic", "redis", "rich", "sqlalchemy", "taskiq")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, prog_name="python -m app")


def test_the_help_names_every_command_under_a_heading() -> None:
    shown = invoke("--help").stdout
    named = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert set(commands.commands) <= set(named)
    assert shown.index("first steps") < shown.index("Run it") < shown.index("worker")


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_each_command_has_a_help(name: str) -> None:
    shown = invoke(name, "--help")
    assert shown.exit_code == 0 and shown.stdout.startswith(f"Usage: python -m app {name}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["wrker"], "'worker'"),
        (["dead", "lsit", "order"], "'list'"),
        (["dead", "list", "o"], "order"),
    ],
)
def test_a_typo_gets_a_suggestion(arguments: list[str], told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and told in result.stderr and "Traceback" not in result.output


def test_the_help_imports_nothing_that_it_does_not_need() -> None:
    program = f"import sys, app.cli; print(*sys.modules.keys() & set({_HEAVY}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_garbage_is_collected_once_a_command_is_loaded() -> None:
    """While it loads it is not: that would take a fifth of the time."""
    program = (
        "import gc, uvloop; uvloop.run = lambda work: print(gc.isenabled(), work.close()); "
        "from app.cli import main; main(['worker'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True None\n"


def test_the_version() -> None:
    assert invoke("version").stdout.startswith(f"order-service {VERSION}, Python 3.")
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_bash_completes_commands_and_queues(tmp_path: Path) -> None:
    ask = """
    eval "$(cd "$0" && "$1" -m app completion bash)"
    asked() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _orders_completion orders
        echo "${COMPREPLY[*]}"; }
    asked orders wor
    asked orders dead list order_
    orders version
    """
    done = subprocess.run(
        ["bash", "-c", ask, str(ROOT), sys.executable],
        cwd=tmp_path,
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, third = done.stdout.splitlines()
    assert (first, second) == ("worker", "order_update") and third.startswith("order-service")


@pytest.mark.parametrize("command", [["web"], ["worker"], ["find", "1"], ["dead", "list", "order"]])
def test_no_command_acts_on_a_server_that_is_not_configured(
    command: list[str], tmp_path: Path
) -> None:
    """Though PostgreSQL, RabbitMQ and Redis have default addresses."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *command],
        cwd=copy_tree(tmp_path / "tree"),
        env=environment({"DATA_DIR": os.fspath(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "DB_HOST" in done.stderr or "RABBITMQ_HOST" in done.stderr
