"""Which rows of a list are asked for, and what the views of lists share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from app.errors import BadCursor
from app.schemas.types import View


@dataclass(frozen=True)
class PageRequest:
    """`count` rows: those of a page, or those after the row that a cursor names. Raises BadCursor
    if both are given. `sort` is what the list is ordered by, from the greatest down if a `-` is in
    front."""

    count: int = 10
    page: int | None = None
    after: str | None = None
    sort: str = "id"

    def __post_init__(self) -> None:
        if self.page is not None and self.after is not None:
            raise BadCursor("`after` stands in place of `page`: send one of them")

    @property
    def sorted_by(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def is_reversed(self) -> bool:
        return self.sort.startswith("-")

    @property
    def number(self) -> int:
        """Of the page, if there is no `after`."""
        return self.page or 1

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.count


class ListView(View):
    if TYPE_CHECKING:
        total: int  # each list has it behind its rows
    # The cursor of the next page. It is not in the body: see page_response.
    next: Annotated[str | None, Field(exclude=True)] = None
