"""The list of commands as a newcomer looks for them."""

from typing import Any

import click


class Sections(click.Group):
    """Lists its commands under headings, in the order of their definition."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sections: dict[str, list[str]] = {}

    def under(self, section: str, *names: str) -> None:
        self._sections[section] = list(names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in self._sections.items():
            with formatter.section(section):
                rows = [(name, self.commands[name].get_short_help_str(200)) for name in names]
                formatter.write_dl(rows)
