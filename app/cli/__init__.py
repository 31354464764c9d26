"""`python -m app COMMAND`."""

import sys
from collections.abc import Sequence

import click

from app.cli.commands import COMPLETE_VARIABLE, commands
from app.runtime.garbage import start_without_gc


def main(arguments: Sequence[str] | None = None) -> None:
    start_without_gc()
    try:
        code = commands.main(
            arguments, "python -m app", complete_var=COMPLETE_VARIABLE, standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # Ctrl-C
        code = 130
    sys.exit(code)
