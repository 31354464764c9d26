"""username keys

Two usernames are the same if their keys are: NFKC, casefolded, without what nobody sees. Where
existing users now have the same name, the eldest keeps it, and each younger one gets a key with its
id, so that it stays readable and can be changed; the log names them. SKUs and external ids that are
not in NFC become so, since what is sent is now compared in NFC; the log names those that clash.

Locks `users` against all else for one UPDATE of all its rows and one index: about 10 s for a million
users. `products` and `orders` are read once, and locked only where a row changes.
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import context, op

revision: str = "4f0c9b6e7a21"
down_revision: str | None = "4e0d7ab2f6c9"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

log = logging.getLogger("alembic.runtime.migration")

# As it was at this revision: app/services/users.py may go on, these keys stay.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_NOT_ASCII = "octet_length({column}) <> char_length({column})"

# For those who write `users` with other programs, such as psql. The service sets both columns
# itself, and none of these fires. `forget` and `keep` tell a rename that leaves the key alone, which
# is then computed here, from one that sets the key to what it was: a trigger sees which columns are
# set only by being of a column. PostgreSQL fires them in the order of their names.
_FUNCTION = """
CREATE FUNCTION username_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.username_key := CASE TG_ARGV[0]
        WHEN 'forget' THEN ''
        WHEN 'keep' THEN OLD.username_key
        ELSE lower(normalize(NEW.username, NFKC)) END;
    RETURN NEW;
END $$
"""
_TRIGGERS = {
    "1_forget": "UPDATE OF username ON users FOR EACH ROW WHEN (NEW.username <> OLD.username"
    " AND NEW.username_key = OLD.username_key)",
    "2_keep": "UPDATE OF username_key ON users FOR EACH ROW WHEN (NEW.username_key = '')",
    "3_fill": "INSERT OR UPDATE ON users FOR EACH ROW"
    " WHEN (NEW.username_key IS NULL OR NEW.username_key = '')",
}
_MARK_THE_YOUNGER = """
UPDATE users SET username_key = username_key || E'\\n' || users.id
FROM (SELECT id, min(id) OVER (PARTITION BY username_key) AS eldest FROM users) AS same
WHERE users.id = same.id AND same.id <> eldest
RETURNING users.id, eldest
"""


def upgrade() -> None:
    op.add_column("users", sa.Column("username_key", sa.Text(), nullable=True))
    _set_keys()
    for younger, eldest in _rows(_MARK_THE_YOUNGER):
        log.warning(
            "the name of user %s now counts as the same as that of user %s: rename one of them",
            *(younger, eldest),
        )
    op.alter_column("users", "username_key", nullable=False)
    op.drop_index("uq_users_username", table_name="users")
    op.create_index("uq_users_username", "users", ["username_key"], unique=True)
    op.execute(_FUNCTION)
    for name, when in _TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER username_key_{name} BEFORE {when}"
            f" EXECUTE FUNCTION username_key('{name[2:]}')"
        )
    _to_nfc("products", "sku")
    _to_nfc("orders", "external_id")


def _set_keys() -> None:
    op.execute('UPDATE users SET username_key = lower(normalize(username, NFKC) COLLATE "C")')
    statement = sa.text("UPDATE users SET username_key = :key WHERE id = :id")
    keys = [
        {"id": id, "key": _key(username)}
        for id, username in _rows(
            f"SELECT id, username FROM users WHERE {_NOT_ASCII.format(column='username')}"
        )
    ]
    if keys:
        op.get_bind().execute(statement, keys)


def _key(username: str) -> str:
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", username)).casefold()
    return unicodedata.normalize("NFKC", folded)


def _to_nfc(table: str, column: str) -> None:
    rows = _rows(f"SELECT id, {column} FROM {table} WHERE {_NOT_ASCII.format(column=column)}")
    for id, text in rows:
        composed = unicodedata.normalize("NFC", text)
        if composed == text:
            continue
        changed = op.get_bind().execute(
            sa.text(
                f"UPDATE {table} SET {column} = :composed WHERE id = :id"
                f" AND NOT EXISTS (SELECT FROM {table} WHERE {column} = :composed)"
            ),
            {"id": id, "composed": composed},
        )
        if not changed.rowcount:
            log.warning(
                "the %s of row %s of %s is that of another row, once both are in NFC: it stays",
                *(column, id, table),
            )


def _rows(statement: str) -> Sequence[Any]:
    """None where only SQL is printed: `alembic upgrade --sql` cannot read."""
    if context.is_offline_mode():
        if not statement.startswith("SELECT"):
            op.execute(statement)
        return []
    return op.get_bind().execute(sa.text(statement)).all()


def downgrade() -> None:
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER username_key_{name} ON users")
    op.execute("DROP FUNCTION username_key()")
    op.drop_index("uq_users_username", table_name="users")
    op.create_index(
        "uq_users_username", "users", [sa.literal_column("lower(username)")], unique=True
    )
    op.drop_column("users", "username_key")
