from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field

from app.schemas.types import CreatedAt, DateTimeOutput, Day, IdOutput, View


class ReportFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


class ReportRead(View):
    id: IdOutput
    report_at: Annotated[Day, Field(description="the day on which it was ordered")]
    order_id: Annotated[IdOutput, Field(description="the order that this row is about")]
    count_product: Annotated[int, Field(examples=[4], description="the units in the order")]
    created_at: CreatedAt


class ReportRow(View):
    report_id: Annotated[IdOutput, Field(description="the id of the report's row")]
    order_id: Annotated[IdOutput, Field(description="the order that this row is about")]
    count_product: Annotated[int, Field(examples=[4], description="the units in the order")]
    report_at: Annotated[Day, Field(description="the day on which it was ordered")]


class ReportMessage(View):
    """What the queue `report` carries: the outbox makes it in SQL, where the rows are."""

    report_date: Annotated[Day, Field(description="the day that the report is about")]
    reports_count: Annotated[int, Field(examples=[1], description="how many rows follow")]
    reports: Annotated[list[ReportRow], Field(description="the rows, in the order of their orders")]
    created_at: CreatedAt
    part: Annotated[
        int | None, Field(description="which message it is, if there are several", examples=[1])
    ] = None
    parts: Annotated[int | None, Field(description="how many messages there are", examples=[1])] = (
        None
    )


class ReportBuilt(View):
    report_date: Annotated[Day, Field(description="the day that the report is about")]
    created: Annotated[int, Field(examples=[1], description="how many rows are new")]
    reports_count: Annotated[int, Field(examples=[1], description="how many rows the day has")]


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


class ReportDay(View):
    """What a day's report adds up to so far; nothing, if it was not built. `closed` says that it
    was built after the day had ended, so only late orders may still come in."""

    report_date: Annotated[Day, Field(description="the day")]
    orders: Annotated[int, Field(examples=[1], description="the orders in its report")]
    units: Annotated[int, Field(examples=[4], description="the pieces in all these orders")]
    closed: Annotated[
        bool, Field(examples=[True], description="whether it was built after the day had ended")
    ]
    built_at: Annotated[
        DateTimeOutput | None,
        Field(description="when it was last built and had something new, in UTC; null until then"),
    ]


class ReportSummary(View):
    """Every day from the first to the last, and their sum."""

    days: Annotated[list[ReportDay], Field(description="the days, the earliest first")]
    orders: Annotated[int, Field(examples=[1], description="the orders of all these days")]
    units: Annotated[int, Field(examples=[4], description="the pieces of all these days")]
