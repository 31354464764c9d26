"""What a request is given, it is given by one provider after the other."""

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from app import web
from app.container import Container
from app.settings import Settings


async def test_no_two_dependencies_are_provided_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For two Litestar makes tasks, which cost; and a deadline that ends between them leaves the
    Work open, because those that are open already are not closed."""
    made: list[Litestar] = []

    class Kept(Litestar):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(web, "Litestar", Kept)
    async with Container.open(Settings(_env_file=None)) as container:
        web.create_app(container)
    batches = [
        batch
        for route in made[0].routes
        if isinstance(route, HTTPRoute)
        for _, parameters in route.route_handler_map.values()
        for batch in parameters.dependency_batches
    ]
    assert len(batches) > 20
    assert all(len(batch) == 1 for batch in batches)
