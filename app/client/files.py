"""The files that producer.py loads: one JSON object a line."""

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from app.client.errors import CliError
from app.schemas.addresses import AddressCreate
from app.schemas.orders import ExternalId, Quantity
from app.schemas.products import ProductCreate, Sku
from app.schemas.types import Body, DateTimeInput, Money
from app.schemas.users import UserCreate, Username

Row = TypeVar("Row", bound=BaseModel)


class AddressRow(AddressCreate):
    username: Username


class ProductRow(ProductCreate):
    sku: Sku


class ItemRow(Body):
    """`unit_price` is accepted and ignored: an order takes the price from the product."""

    sku: Sku
    quantity: Quantity
    unit_price: Money | None = None


class OrderRow(Body):
    external_id: ExternalId
    username: Username
    ordered_at: DateTimeInput | None = None
    items: Annotated[list[ItemRow], Field(min_length=1, max_length=1000)]


SCHEMAS: dict[str, type[BaseModel]] = {
    "users": UserCreate,
    "addresses": AddressRow,
    "products": ProductRow,
    "orders": OrderRow,
}
_KEYS = {"users": "username", "products": "sku", "orders": "external_id"}


def rows_of(path: Path, schema: type[Row]) -> Iterator[tuple[str, Row]]:
    """Each row with its place, as file:line. Only one row is in memory at a time. Raises CliError
    with the place of a bad line."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if row := (line.removeprefix(BOM_UTF8) if number == 1 else line).strip():
                    yield f"{path}:{number}", schema.model_validate_json(row)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise CliError(f"{path}:{number}: {field}{': ' if field else ''}{first['msg']}") from error


class Survey:
    """Reads all the files before anything is sent: a bad line anywhere raises CliError.

    `totals` counts the rows of each file. `usernames` (in lower case) and `skus` map the names that
    the rows refer to, each to the place of its first use."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.usernames: dict[str, str] = {}
        self.skus: dict[str, str] = {}
        self.totals = {name: self._read(name, path) for name, path in files.items()}

    def _read(self, name: str, path: Path) -> int:
        total = 0
        keys: set[str] = set()
        for total, (place, row) in enumerate(rows_of(path, SCHEMAS[name]), 1):
            key = getattr(row, _KEYS[name]) if name in _KEYS else place
            if key in keys:
                raise CliError(f"{place}: {_KEYS[name]} {key} stands in an earlier line too")
            keys.add(key)
            self._note(row, place)
        return total

    def _note(self, row: BaseModel, place: str) -> None:
        if not isinstance(row, ProductRow):
            self.usernames.setdefault(row.username.lower(), place)  # type: ignore[attr-defined]
        for item in row.items if isinstance(row, OrderRow) else []:
            self.skus.setdefault(item.sku, place)
