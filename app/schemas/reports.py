from typing import Annotated

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
