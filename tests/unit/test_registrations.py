"""Registries are complete, and using what is not registered raises an error that says the cure."""

import importlib
import pkgutil
from typing import Any

import pytest

from app import services
from app.cache.caches import Caches
from app.cache.entities import CachedEntity
from app.cache.store import key_prefixes
from app.facts import Fact
from app.models.addresses import Address
from app.repositories.pages import Listing
from app.schemas.pages import PageRequest
from app.services.after_commit import NothingFollows
from app.services.cached_entities import CACHED_ENTITIES
from harness.dependencies import redis_address

_NOWHERE = redis_address("redis://127.0.0.1:9/0")


def defined_entities() -> list[CachedEntity]:
    """The cached entities that the modules of app/services define."""
    modules = (
        importlib.import_module(f"app.services.{module.name}")
        for module in pkgutil.iter_modules(services.__path__)
    )
    values = (value for module in modules for value in vars(module).values())
    return [value for value in values if isinstance(value, CachedEntity)]


def test_every_cached_entity_is_registered() -> None:
    forgotten = {entity.name for entity in defined_entities() if entity not in CACHED_ENTITIES}
    assert not forgotten, "add it to CACHED_ENTITIES in app/services/cached_entities.py"
    names = [entity.name for entity in CACHED_ENTITIES]
    assert len(names) == len(set(names))


def test_a_purge_deletes_the_keys_of_every_registered_entity() -> None:
    prefixes = key_prefixes(_NOWHERE, ["user", "parcel"])
    assert prefixes == (b"user:", b"parcel:", b"lease:")


async def test_an_entity_that_is_not_registered_cannot_be_read() -> None:
    nothing: Any = None
    parcel = CachedEntity("parcel", 60, nothing, deleted_by=frozenset())
    caches = Caches(_NOWHERE, CACHED_ENTITIES, nothing, nothing)
    with pytest.raises(LookupError, match="parcel is not registered: add it to CACHED_ENTITIES"):
        caches[parcel]  # pylint: disable=pointless-statement
    await caches.close()


def test_a_reading_cannot_record_a_change() -> None:
    with pytest.raises(RuntimeError, match=r"Open a unit of work: container.unit_of_work\(\)"):
        NothingFollows().record(Fact.USER_CHANGED, [1])
    with pytest.raises(RuntimeError, match=r"Open a unit of work: container.unit_of_work\(\)"):
        NothingFollows().enqueued([1])


async def test_a_table_without_kept_totals_cannot_be_paged() -> None:
    nothing: Any = None
    with pytest.raises(LookupError, match="derive its model from Counted"):
        await Listing(Address, {}, {}).page(nothing, {}, PageRequest())
