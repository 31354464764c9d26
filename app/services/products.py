import structlog

from app.cache.reads import ReadThroughCache
from app.errors import NotFound
from app.repositories.products import ProductRepository
from app.schemas.products import ProductCreate, ProductList, ProductRead, ProductUpdate
from app.services.after_commit import Changes
from app.services.preconditions import Precondition

log = structlog.get_logger(__name__)


class ProductService:
    def __init__(
        self, products: ProductRepository, cached: ReadThroughCache, changes: Changes
    ) -> None:
        self._products = products
        self._cached = cached
        self._changes = changes

    async def list(self, count: int, page: int) -> ProductList:
        found = await self._products.page(count, (page - 1) * count)
        rows = [ProductRead.model_validate(row) for row in found.rows]
        return ProductList(products=rows, total=found.total)

    async def create(self, body: ProductCreate) -> ProductRead:
        product = await self._products.add(body.model_dump())
        if product.stock_quantity:
            await self._products.record_movement(product.id, "opening", product.stock_quantity)
        return ProductRead.model_validate(product)

    async def update(
        self, product_id: int, body: ProductUpdate, precondition: Precondition | None = None
    ) -> ProductRead:
        fields = body.model_dump(exclude_unset=True)
        before = None
        if precondition or "stock_quantity" in fields:
            before = await self._products.lock(product_id)
        if precondition and before:
            precondition.require(ProductRead.model_validate(before))
        product = await self._products.change(product_id, fields)
        if product is None:
            raise NotFound("product", product_id)
        if before and (adjusted := product.stock_quantity - before.stock_quantity):
            await self._products.record_movement(product_id, "adjustment", adjusted)
        if product.stock_quantity == 0:
            log.warning("product is out of stock", product_id=product_id)
        self._changes.refreshed_products.add(product_id)
        return ProductRead.model_validate(product)

    async def delete(self, product_id: int) -> None:
        """Refused while orders need the product."""
        if not await self._products.remove(product_id):
            raise NotFound("product", product_id)
        self._changes.deleted.add(self._cached.key(product_id))
