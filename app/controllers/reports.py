from collections.abc import Sequence

from litestar import Controller, Response, get, post

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.idempotency import idempotent
from app.rest.parameters import ReportDate
from app.rest.responses import ETAG, json_response, json_stream
from app.schemas.reports import ReportBuilt, ReportRead
from app.services.reports import ReportService

# Enough for a day of millions of orders: one million take 7 s.
_BUILD_SECONDS = 60


class ReportController(Controller):
    """Every day's orders."""

    path = "/report"
    tags = ["reports"]

    @get(summary="The report rows of a day", responses=error_responses(422))
    async def list(
        self, reports: Injected[ReportService], report_date: ReportDate = None
    ) -> Response[Sequence[ReportRead]]:
        """A row for each order of the day."""
        return json_stream(await reports.of_day(report_date or reports.today()))

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
