from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.schemas.types import DateTimeOutput, Day, IdOutput, View


class ReportFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


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


class ReportDay(View):
    """What a day's report adds up to so far; nothing, if it was not built. `closed` says that it
    was built after the day had ended, so only late orders may still come in."""

    report_date: Day
    orders: Annotated[int, Field(examples=[1])]
    units: Annotated[int, Field(examples=[4], description="the pieces in all these orders")]
    closed: Annotated[bool, Field(examples=[True])]


class ReportSummary(View):
    """Every day from the first to the last, and their sum."""

    days: list[ReportDay]
    orders: Annotated[int, Field(examples=[1])]
    units: Annotated[int, Field(examples=[4])]
