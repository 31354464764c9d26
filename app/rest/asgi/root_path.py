from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """For a proxy that serves the API below a path and passes that path on. Without the path the
    API is served too: other proxies take it off, and probes ask the process itself."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = f"{root_path}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(self._root):
            path = scope["path"].removeprefix(self._root)
            scope = {**scope, "path": f"/{path}"}
        await self._app(scope, receive, send)
