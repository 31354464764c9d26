from collections.abc import Sequence

from litestar import Controller, Response, get, post

from app.rest.dependencies import ExactlyOnce, Reports
from app.rest.errors import error_responses
from app.rest.parameters import ReportDate
from app.rest.responses import as_json_list_of, as_json_of
from app.schemas.reports import ReportBuilt, ReportRead

# A million orders take 7 s.
_BUILD_SECONDS = 60


class ReportController(Controller):
    path = "/report"
    tags = ["reports"]

    @get(summary="The report rows of a day", responses=error_responses(422))
    async def list(
        self, reports: Reports, report_date: ReportDate = None
    ) -> Response[Sequence[ReportRead]]:
        return as_json_list_of(ReportRead, await reports.of_day(report_date or reports.today()))

    @post(
        summary="Build the report of a day now",
        status_code=200,
        opt={"deadline": _BUILD_SECONDS},
        responses=error_responses(409, 415, 422),
    )
    async def build(
        self, once: ExactlyOnce, report_date: ReportDate = None
    ) -> Response[ReportBuilt]:
        body = await once(lambda uow: uow.reports.build(report_date or uow.reports.today()))
        return as_json_of(ReportBuilt, body)
