"""Litestar resolves the dependencies of a request one after the other."""

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from app import web
from app.container import Container
from app.settings import Settings


async def test_no_two_dependencies_are_resolved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For two at once Litestar makes tasks, which cost time. And if the deadline ends between
    them, Litestar does not close those that are open already: the unit of work stays open."""
    made: list[Litestar] = []

    class Kept(Litestar):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(web, "Litestar", Kept)
    async with Container.open(Settings(_env_file=None)) as container:
        web.create_app(container, web.new_places())
    batches = [
        batch
        for route in made[0].routes
        if isinstance(route, HTTPRoute)
        for _, parameters in route.route_handler_map.values()
        for batch in parameters.dependency_batches
    ]
    assert len(batches) > 20
    assert all(len(batch) == 1 for batch in batches)
