"""An INSERT that looks first whether the values are free.

A row that breaks a unique index has drawn its id by then, so refused sign-ups would use up ids; and
PostgreSQL logs each as an error, with the values. Two that come at the same moment still meet in
the index, and the second has lost its id."""

from typing import Any
from typing import cast as typed

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    cast,
    exists,
    insert,
    literal,
    null,
    select,
    true,
)
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.visitors import replacement_traverse

from app.models.base import Base


def insert_if_free(model: type[Base], columns: tuple[str, ...]) -> Executable:
    """One row. Its `taken` is the name of a unique index that has the values already, and then
    nothing is inserted; else it is null and the others are the new row's columns."""
    table: Table = model.__table__  # type: ignore[assignment]
    checks = [
        (exists().where(and_(*(e == _of_arguments(e) for e in expressions))), literal(name))
        for name, expressions in sorted(_unique(table).items())
    ]
    if not checks:
        return insert(table).returning(cast(null(), Text).label("taken"), *table.c)
    given = {name: bindparam(name, type_=table.c[name].type) for name in columns}
    found = case(*checks, else_=null())
    taken = select(found.label("taken")).cte("looked_up").prefix_with("MATERIALIZED")
    row = select(*given.values()).select_from(taken).where(taken.c.taken.is_(None))
    added = insert(table).from_select(list(given), row).returning(*table.c).cte("added")
    return select(taken.c.taken, added).select_from(taken.outerjoin(added, true()))


def _unique(table: Table) -> dict[str, list[Any]]:
    """What each unique index and constraint is on."""
    unique = {str(i.name): list(i.expressions) for i in table.indexes if i.unique}
    constraints = (c for c in table.constraints if isinstance(c, UniqueConstraint))
    return unique | {str(c.name): list(c.columns) for c in constraints}


def _of_arguments(expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same expression of what is to be inserted."""

    def replace(element: ClauseElement, **_: object) -> ClauseElement | None:
        if isinstance(element, Column):
            return bindparam(element.name, type_=element.type)
        return None

    return typed(ColumnElement[Any], replacement_traverse(expression, {}, replace))
