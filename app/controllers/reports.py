from datetime import date
from typing import Annotated

from litestar import Controller, get, post
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from app.controllers.dependencies import Reports
from app.controllers.errors import documented
from app.schemas.reports import ReportBuilt, ReportRead

ReportDate = Annotated[
    date | None,
    QueryParameter(description="default: today", examples=[Example(value="2025-12-16")]),
]


class ReportController(Controller):
    path = "/report"
    tags = ["reports"]

    @get(summary="The report rows of a day", responses=documented(422))
    async def list(self, reports: Reports, report_date: ReportDate = None) -> list[ReportRead]:
        return await reports.of_day(report_date or reports.today())

    @post(
        summary="Build the report of a day now",
        status_code=200,
        responses=documented(409, 422),
    )
    async def build(self, reports: Reports, report_date: ReportDate = None) -> ReportBuilt:
        return await reports.build(report_date or reports.today())
