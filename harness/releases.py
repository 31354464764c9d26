"""Releases of the service that are newer than this one: its files, and more migrations."""

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from app.settings import ROOT
from harness.tree import copy_tree

REVISIONS = [
    script.revision
    for script in ScriptDirectory.from_config(Config(ROOT / "app/alembic.ini")).walk_revisions()
][::-1]
_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    raise NotImplementedError
"""


def newer_release(target: Path, *upgrades: str) -> Path:
    """A copy of the service's files with a migration for each of these, the body of `upgrade`."""
    copy = copy_tree(target)
    before = REVISIONS[-1]
    for number, upgrade in enumerate(upgrades):
        revision = f"newer{number}"
        code = _MIGRATION.format(revision=revision, before=before, upgrade=upgrade)
        (copy / "migrations/versions" / f"{revision}.py").write_text(code, "utf-8")
        before = revision
    return copy


def executing(*statements: str) -> str:
    """The body of a migration."""
    return "\n    ".join(f"op.execute({statement!r})" for statement in statements)


def concurrently(statement: str) -> str:
    """The body of a migration that is no transaction."""
    return f"with op.get_context().autocommit_block():\n        op.execute({statement!r})"
