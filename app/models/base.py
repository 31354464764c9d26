"""What all tables share."""

from datetime import datetime
from typing import Annotated

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text, func
from sqlalchemy.orm import DeclarativeBase, mapped_column

# Ids have 64 bits in every table: a table only gets harder to change.
Id = Annotated[int, mapped_column(BigInteger)]
Key = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
Created = Annotated[datetime, mapped_column(server_default=func.now())]


class Counted:
    """A table whose total is kept in `row_counts` by triggers: see its migration."""


class Base(DeclarativeBase):
    # Names for all constraints: a migration can drop one, and a violation tells which rule it broke
    # (app/repositories/constraints.py).
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text()}
