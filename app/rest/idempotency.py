"""Idempotency-Key: a client that does not know whether its POST arrived may send it again."""

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from hashlib import sha256
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.exceptions import ValidationException

from app.rest.dependencies import Injected
from app.rest.parameters import KEY_PATTERN, IdempotencyKey
from app.rest.responses import json_bytes, public_path
from app.unit_of_work import UnitOfWork

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response[Any]]])


LOCATION = ResponseHeader(
    "Location",
    documentation_only=True,
    required=True,
    description="the path of what was created",
)


class _Created(msgspec.Struct):
    id: int


_created = msgspec.json.Decoder(_Created)


def idempotent(creates: str | None = None) -> Callable[[Handler], Handler]:
    """Runs the handler once per key: a repeat gets the stored response. `creates` is the path of
    the collection that gets a new member, such as `/users`: the response has the Location of it.

    The parameters that this needs are added to the handler's own, so that Litestar injects them
    and the OpenAPI document shows the header. The handler must return `json_response(...)`."""

    def decorate(handler: Handler) -> Handler:
        async def with_key(
            self: Any,
            *,
            request: Request[Any, Any, Any],
            uow: Injected[UnitOfWork],
            idempotency_key: IdempotencyKey = None,
            **arguments: Any,
        ) -> Response[Any]:
            async def effect() -> bytes:
                return cast(bytes, (await handler(self, **arguments)).content)

            if idempotency_key is None:
                response = await handler(self, **arguments)
            else:
                response = json_bytes(await _once(request, uow, idempotency_key, effect))
            if creates:
                path = f"{creates}/{_created.decode(response.content).id}"
                response.headers["Location"] = public_path(request, path)
            return response

        return cast(Handler, _with_parameters_of_both(with_key, handler))

    return decorate


async def _once(
    request: Request[Any, Any, Any],
    uow: UnitOfWork,
    key: str,
    effect: Callable[[], Awaitable[bytes]],
) -> bytes:
    # No pattern in its type: beside a wrong header, Litestar hides what is wrong with the body.
    if not re.fullmatch(KEY_PATTERN, key):
        raise ValidationException(extra=[{"key": "idempotency_key"}])
    return await uow.idempotency.once(key, await _fingerprint(request), effect)


async def _fingerprint(request: Request[Any, Any, Any]) -> bytes:
    """Differs for a request that reuses the key of another one."""
    target = f"{request.method} {request.url.path}?{request.url.query}\n"
    return sha256(target.encode() + await request.body()).digest()


def _with_parameters_of_both(wrapper: Any, handler: Callable[..., Any]) -> Any:
    """Litestar reads the signature and the annotations, and passes every argument by name."""
    own, *added, _ = inspect.signature(wrapper).parameters.values()
    inner = inspect.signature(handler)
    _, *others = inner.parameters.values()
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]
    update_wrapper(wrapper, handler)
    wrapper.__signature__ = inner.replace(parameters=[own, *added, *named])
    wrapper.__annotations__ = handler.__annotations__ | {p.name: p.annotation for p in added}
    return wrapper
