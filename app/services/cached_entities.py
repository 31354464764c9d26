"""The list of everything that is cached. Each entity is defined beside its service."""

from app.services.products import PRODUCT
from app.services.users import USER

CACHED_ENTITIES = (USER, PRODUCT)
