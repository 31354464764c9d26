from sqlalchemy import insert

from app.models.products import Product, StockMovement
from app.repositories.entities import EntityRepository
from app.repositories.pages import Page, page_of
from app.schemas.pages import PageRequest


class ProductRepository(EntityRepository[Product], model=Product):
    async def page(self, wanted: PageRequest) -> Page[Product]:
        return await page_of(self._connection, Product, {}, wanted)

    async def record_movement(self, product_id: int, reason: str, quantity: int) -> None:
        fields = {"product_id": product_id, "reason": reason, "quantity": quantity}
        await self._connection.execute(insert(StockMovement), fields)
