from collections.abc import Sequence

from litestar import Controller, Response, get, post

from app.rest.charts import report_chart
from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.idempotency import idempotent
from app.rest.pages import SVG
from app.rest.parameters import FirstDay, Format, LastDay, ReportDate, days
from app.rest.requests import JsonRequest
from app.rest.responses import ETAG, POLICY, VARY, json_response, preferred, stream
from app.schemas.reports import ReportBuilt, ReportFormat, ReportRead, ReportSummary
from app.services.reports import ReportService

# Enough for a day of millions of orders: one million take 7 s.
_BUILD_SECONDS = 60
# The first is for clients that say nothing.
_MEDIA_TYPES = {ReportFormat.JSON: "application/json", ReportFormat.CSV: "text/csv"}


class ReportController(Controller):
    """Every day's orders."""

    path = "/report"
    tags = ["reports"]

    @get(
        summary="The report rows of a day, as JSON or CSV",
        responses=error_responses(422),
        response_headers=[VARY],
    )
    async def list(
        self,
        request: JsonRequest,
        reports: Injected[ReportService],
        report_date: ReportDate = None,
        format: Format = None,
    ) -> Response[Sequence[ReportRead]]:
        """A row for each order of the day."""
        day = report_date or reports.today()
        chosen = format or preferred(request, _MEDIA_TYPES)
        return stream(await reports.of_day(day, chosen), _MEDIA_TYPES[chosen])

    @get(
        "/summary",
        summary="The orders and pieces of each day, and their sum",
        responses=error_responses(422),
    )
    async def summary(
        self, reports: Injected[ReportService], first: FirstDay = None, last: LastDay = None
    ) -> ReportSummary:
        """At most 366 days; without `from` and `to` the last 14."""
        return await reports.summary(*days(first, last, reports.today()))

    @get(
        "/chart.svg",
        summary="The same as a picture",
        media_type=SVG,
        responses=error_responses(422),
        response_headers=[VARY, POLICY],
    )
    async def chart(
        self, reports: Injected[ReportService], first: FirstDay = None, last: LastDay = None
    ) -> Response[str]:
        """Two bars for each day, light or dark as the browser is, without a script."""
        return report_chart(await reports.summary(*days(first, last, reports.today())))

    @post(
        summary="Build the report of a day now",
        status_code=200,
        opt={"deadline": _BUILD_SECONDS},
        responses=error_responses(409, 415, 422),
        response_headers=[ETAG],
    )
    @idempotent()
    async def build(
        self, reports: Injected[ReportService], report_date: ReportDate = None
    ) -> Response[ReportBuilt]:
        """As the nightly task does. A day that has not ended is built again when it has."""
        return json_response(await reports.build(report_date or reports.today()))
