from litestar import Controller, Response, delete, get, post, put

from app.controllers.dependencies import Products, as_json_of
from app.controllers.errors import documented
from app.controllers.parameters import Count, Page, PathId
from app.schemas.products import ProductCreate, ProductList, ProductRead, ProductUpdate


class ProductController(Controller):
    path = "/products"
    tags = ["products"]

    @get(summary="A page of products", responses=documented(422))
    async def list(self, products: Products, count: Count = 10, page: Page = 1) -> ProductList:
        return await products.list(count, page)

    @get("/{product_id:int}", summary="One product", responses=documented(404, 422))
    async def read(self, products: Products, product_id: PathId) -> Response[ProductRead]:
        return as_json_of(ProductRead, await products.read(product_id))

    @post(summary="Create a product", responses=documented(400, 413, 415, 422))
    async def create(self, products: Products, data: ProductCreate) -> ProductRead:
        return await products.create(data)

    @put(
        "/{product_id:int}",
        summary="Change some fields of a product",
        responses=documented(400, 404, 413, 415, 422),
    )
    async def update(
        self, products: Products, product_id: PathId, data: ProductUpdate
    ) -> ProductRead:
        return await products.update(product_id, data)

    @delete(
        "/{product_id:int}",
        summary="Delete a product that no order needs",
        responses=documented(404, 409, 422),
    )
    async def delete(self, products: Products, product_id: PathId) -> None:
        await products.delete(product_id)
