from collections.abc import Sequence

from litestar import Controller, Response, get, post

from app.controllers.answers import as_json_list_of, as_json_of
from app.controllers.dependencies import ExactlyOnce, Reports
from app.controllers.errors import documented
from app.controllers.parameters import ReportDate
from app.schemas.reports import ReportBuilt, ReportRead

# A million orders take 7 s.
_BUILD_SECONDS = 60


class ReportController(Controller):
    path = "/report"
    tags = ["reports"]

    @get(summary="The report rows of a day", responses=documented(422))
    async def list(
        self, reports: Reports, report_date: ReportDate = None
    ) -> Response[Sequence[ReportRead]]:
        return as_json_list_of(ReportRead, await reports.of_day(report_date or reports.today()))

    @post(
        summary="Build the report of a day now",
        status_code=200,
        opt={"deadline": _BUILD_SECONDS},
        responses=documented(409, 415, 422),
    )
    async def build(
        self, once: ExactlyOnce, report_date: ReportDate = None
    ) -> Response[ReportBuilt]:
        body = await once(lambda work: work.reports.build(report_date or work.reports.today()))
        return as_json_of(ReportBuilt, body)
