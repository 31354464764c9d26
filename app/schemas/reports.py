from typing import Annotated

from pydantic import Field

from app.schemas.types import Day, Id, Timestamp, View


class ReportRead(View):
    id: Id
    report_at: Day
    order_id: Id
    count_product: Annotated[int, Field(examples=[4])]
    created_at: Timestamp


class ReportBuilt(View):
    """`created` rows are new; `reports_count` is how many the day has now."""

    report_date: Day
    created: Annotated[int, Field(examples=[1])]
    reports_count: Annotated[int, Field(examples=[1])]
