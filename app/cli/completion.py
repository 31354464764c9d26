"""Completion in a shell. Click's scripts are for a program of one word; ours has three, and so gets
a function."""

import sys
from shlex import quote

import click
from click.shell_completion import get_completion_class

from app.settings import ROOT


def script(commands: click.Command, shell: str, name: str, variable: str) -> str:
    """What the shell evaluates. It works in any directory."""
    started = f"env PYTHONPATH={quote(str(ROOT))} {quote(sys.executable)} -m app"
    found = get_completion_class(shell)
    assert found is not None
    source = found(commands, {}, name, variable).source()
    source = source.replace("bash_complete $1", f"bash_complete {started}")
    source = source.replace(f"zsh_complete {name}", f"zsh_complete {started}")
    source = source.replace("$+commands", "$+functions")
    return f'{name}() {{ {started} "$@"; }}\n{source}'
