from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import ONE_CALL, Injected
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.idempotency import LOCATION, idempotent
from app.rest.parameters import (
    After,
    Count,
    IfMatch,
    IfNoneMatch,
    NamePrefix,
    Page,
    PathId,
    ProductSort,
    Sku,
)
from app.rest.requests import JsonRequest
from app.rest.responses import ETAG, LINKS, json_response, not_modified_or, page_response
from app.schemas.pages import PageRequest
from app.schemas.products import ProductCreate, ProductList, ProductRead, ProductUpdate
from app.services.products import ProductService


class ProductController(Controller):
    """What there is to order, with its price and stock."""

    path = "/products"
    tags = ["products"]

    @get(summary="A page of products", responses=error_responses(422), response_headers=[LINKS])
    async def list(
        self,
        request: JsonRequest,
        products: Injected[ProductService],
        sku: Sku = None,
        name_prefix: NamePrefix = None,
        sort: ProductSort = "id",
        count: Count = 10,
        page: Page = None,
        after: After = None,
    ) -> Response[ProductList]:
        """Follow the `next` link to read on."""
        wanted = PageRequest(count, page, after, sort)
        return page_response(
            request, wanted, await products.list(wanted, sku=sku, name_prefix=name_prefix)
        )

    @get(
        "/{product_id:int}",
        summary="One product",
        responses=error_responses(304, 404, 422),
        response_headers=[ETAG],
    )
    async def read(
        self,
        products: Injected[ProductService],
        product_id: PathId,
        if_none_match: IfNoneMatch = None,
    ) -> Response[ProductRead]:
        """With the ETag of an earlier response in If-None-Match, 304 if nothing has changed."""
        return not_modified_or(if_none_match, await products.read(product_id))

    @post(
        summary="Create a product",
        responses=error_responses(400, 413, 415, 422),
        response_headers=[ETAG, LOCATION],
    )
    @idempotent(creates="/products")
    async def create(
        self, products: Injected[ProductService], data: JSONBody[ProductCreate]
    ) -> Response[ProductRead]:
        """400 if the sku is taken."""
        return json_response(await products.create(data))

    @put(
        "/{product_id:int}",
        summary="Change some fields of a product",
        responses=error_responses(400, 404, 412, 413, 415, 422),
        response_headers=[ETAG],
        opt=ONE_CALL,
    )
    async def update(
        self,
        products: Injected[ProductService],
        product_id: PathId,
        data: JSONBody[ProductUpdate],
        if_match: IfMatch = None,
    ) -> Response[ProductRead]:
        """Absent fields stay as they are; `null` clears sku and description. Orders keep the
        price of the moment when they were placed."""
        return json_response(await products.update(product_id, data, parse_if_match(if_match)))

    @delete(
        "/{product_id:int}",
        summary="Delete a product that no order needs",
        responses=error_responses(404, 409, 422),
        opt=ONE_CALL,
    )
    async def delete(self, products: Injected[ProductService], product_id: PathId) -> None:
        """409 while an order needs it."""
        await products.delete(product_id)
