from typing import Annotated, NamedTuple

from pydantic import Field

from app.schemas.types import DateTimeOutput, Day, IdOutput, View


class ReportRead(View):
    id: IdOutput
    report_at: Day
    order_id: IdOutput
    count_product: Annotated[int, Field(examples=[4])]
    created_at: DateTimeOutput


class ReportBuilt(View):
    """`created` counts the rows that are new, `reports_count` all rows of the day."""

    report_date: Day
    created: Annotated[int, Field(examples=[1])]
    reports_count: Annotated[int, Field(examples=[1])]


class Comparison(NamedTuple):
    """A day's report rows beside its orders. `missing` orders have no row, `surplus` rows no order
    of that day, and `wrong` rows another number of products than their order."""

    orders: int
    rows: int
    missing: int
    surplus: int
    wrong: int

    @property
    def is_right(self) -> bool:
        return not (self.missing or self.surplus or self.wrong)
