from typing import Annotated

from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import ExactlyOnce, Products
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.parameters import Count, IfMatch, IfNoneMatch, Page, PathId, path_id
from app.rest.responses import as_json_of, json_of, not_modified_or
from app.schemas.products import ProductCreate, ProductList, ProductRead, ProductUpdate

# In the document's examples: what its POST made, and nothing needs.
MadeId = Annotated[int, path_id(6)]


class ProductController(Controller):
    path = "/products"
    tags = ["products"]

    @get(summary="A page of products", responses=error_responses(422))
    async def list(self, products: Products, count: Count = 10, page: Page = 1) -> ProductList:
        return await products.list(count, page)

    @get("/{product_id:int}", summary="One product", responses=error_responses(304, 404, 422))
    async def read(
        self, products: Products, product_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[ProductRead]:
        return not_modified_or(if_none_match, ProductRead, await products.read(product_id))

    @post(summary="Create a product", responses=error_responses(400, 413, 415, 422))
    async def create(
        self, once: ExactlyOnce, data: JSONBody[ProductCreate]
    ) -> Response[ProductRead]:
        return as_json_of(ProductRead, await once(lambda uow: uow.products.create(data)))

    @put(
        "/{product_id:int}",
        summary="Change some fields of a product",
        responses=error_responses(400, 404, 412, 413, 415, 422),
    )
    async def update(
        self,
        products: Products,
        product_id: PathId,
        data: JSONBody[ProductUpdate],
        if_match: IfMatch = None,
    ) -> Response[ProductRead]:
        return as_json_of(
            ProductRead, json_of(await products.update(product_id, data, parse_if_match(if_match)))
        )

    @delete(
        "/{product_id:int}",
        summary="Delete a product that no order needs",
        responses=error_responses(404, 409, 422),
    )
    async def delete(self, products: Products, product_id: MadeId) -> None:
        await products.delete(product_id)
