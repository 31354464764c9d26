"""The parameters that operations share."""

from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from app.schemas.types import INT4_MAX

# A page beyond this would begin after the largest id there can be.
PAGE_MAX = INT4_MAX // 100

PathId = Annotated[int, PathParameter(gt=0, le=INT4_MAX, examples=[Example(value=1)])]
QueryId = Annotated[int | None, QueryParameter(gt=0, le=INT4_MAX)]
Count = Annotated[
    int, QueryParameter(ge=1, le=100, description="rows on a page", examples=[Example(value=10)])
]
Page = Annotated[
    int, QueryParameter(ge=1, le=PAGE_MAX, description="from 1", examples=[Example(value=1)])
]
