from collections.abc import Sequence

import structlog

from app.cache.entities import CachedEntity
from app.cache.reads import ReadThroughCache
from app.database import Database
from app.errors import NotFound
from app.facts import Fact
from app.repositories.products import ProductRepository
from app.schemas.pages import PageRequest
from app.schemas.products import ProductCreate, ProductList, ProductRead, ProductUpdate
from app.schemas.types import to_nfc
from app.services.after_commit import AfterCommit
from app.services.preconditions import Precondition

log = structlog.get_logger(__name__)


async def load_products(database: Database, ids: Sequence[int]) -> dict[int, bytes]:
    """What the cache fills in: the committed rows as JSON. Raises Unavailable."""
    async with database.autocommit() as connection:
        products = await ProductRepository(connection).find(ids)
    return {p.id: ProductRead.json_of(p) for p in products}


PRODUCT = CachedEntity(
    name="product",
    ttl=600,
    load=load_products,
    deleted_by=frozenset({Fact.PRODUCT_DELETED, Fact.STOCK_CHANGED}),
    refreshed_by=frozenset({Fact.PRODUCT_UPDATED}),
)


class ProductService:
    """Raises NotFound for an unknown product, and Duplicate, at the commit at the latest, if
    another product has this sku."""

    def __init__(
        self, products: ProductRepository, cache: ReadThroughCache, after_commit: AfterCommit
    ) -> None:
        self._products = products
        self._cache = cache
        self._after_commit = after_commit

    async def list(
        self, wanted: PageRequest, *, sku: str | None = None, name_prefix: str | None = None
    ) -> ProductList:
        """`name_prefix` is what a name begins with, in capitals or not."""
        filters = {"sku": to_nfc(sku), "name_prefix": to_nfc(name_prefix)}
        found = await self._products.page(filters, wanted)
        rows = [ProductRead.of(row) for row in found.rows]
        return ProductList(products=rows, total=found.total, next=found.next)

    async def read(self, product_id: int) -> bytes:
        """The product as JSON, most often from the cache, and never older than the last
        acknowledged write."""
        return await self._cache.read(product_id)

    async def create(self, body: ProductCreate) -> ProductRead:
        product = await self._products.add(body.model_dump())
        if product.stock_quantity:
            await self._products.record_movement(product.id, "opening", product.stock_quantity)
        return ProductRead.of(product)

    async def update(
        self, product_id: int, body: ProductUpdate, precondition: Precondition | None = None
    ) -> ProductRead:
        """A new stock is a movement in the ledger. Raises VersionMismatch if the precondition does
        not hold."""
        fields = body.model_dump(exclude_unset=True)
        before = None
        if precondition or "stock_quantity" in fields:
            before = await self._products.lock(product_id)
        if precondition and before:
            precondition.require(ProductRead.of(before))
        changed = await self._products.change_and_announce(
            product_id, fields, PRODUCT.key(product_id)
        )
        if changed is None:
            raise NotFound("product", product_id)
        product = changed.row
        if before and (adjusted := product.stock_quantity - before.stock_quantity):
            await self._products.record_movement(product_id, "adjustment", adjusted)
        if product.stock_quantity == 0:
            log.warning("product is out of stock", product_id=product_id)
        self._after_commit.record(Fact.PRODUCT_UPDATED, [product_id], changed.announced)
        return ProductRead.of(product)

    async def delete(self, product_id: int) -> None:
        """Raises StillNeeded while an order has the product."""
        removed = await self._products.remove_and_announce(product_id, PRODUCT.key(product_id))
        if removed is None:
            raise NotFound("product", product_id)
        self._after_commit.record(Fact.PRODUCT_DELETED, [product_id], removed.announced)
