from litestar import Controller, Response, get

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.pages import polled_page_or_json
from app.rest.parameters import IfNoneMatch
from app.rest.requests import JsonRequest
from app.rest.responses import VARY, WEAK_ETAG
from app.schemas.overview import Overview
from app.services.overview import OverviewService


class OverviewController(Controller):
    """How the service is, at one look."""

    path = "/"
    tags = ["overview"]

    @get(
        summary="How the service is, as JSON or as a page",
        description="What is wrong and what to do, the servers, today's orders, the stock, the "
        "last reports, the queues, the cache, and the messages that were not applied. All who ask "
        "within three seconds are told the same.",
        responses=error_responses(304),
        response_headers=[VARY, WEAK_ETAG],
    )
    async def read(
        self,
        request: JsonRequest,
        overview: Injected[OverviewService],
        if_none_match: IfNoneMatch = None,
    ) -> Response[Overview]:
        # The page polls. An event stream would hold a connection for each open tab, and the end of
        # the process would have to wait for them; a poll of an unchanged snapshot is a 304.
        found = await overview.read()
        return polled_page_or_json(request, "overview.html", found, found.version, if_none_match)
