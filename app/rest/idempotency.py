"""Idempotency-Key: a client that does not know whether its POST arrived may send it again."""

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from hashlib import sha256
from typing import Any, TypeVar, cast

from litestar import Request, Response
from litestar.exceptions import ValidationException

from app.rest.dependencies import Injected
from app.rest.parameters import KEY_PATTERN, IdempotencyKey
from app.rest.responses import json_bytes
from app.unit_of_work import UnitOfWork

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response[Any]]])


def idempotent(handler: Handler) -> Handler:
    """Runs the handler once per key: a repeat gets the stored response.

    The parameters that this needs are added to the handler's own, so that Litestar injects them
    and the OpenAPI document shows the header. The handler must return `json_response(...)`."""

    async def with_key(
        self: Any,
        *,
        request: Request[Any, Any, Any],
        uow: Injected[UnitOfWork],
        idempotency_key: IdempotencyKey = None,
        **arguments: Any,
    ) -> Response[Any]:
        if idempotency_key is None:
            return await handler(self, **arguments)
        # No pattern in its type: beside a wrong header, Litestar hides what is wrong with the body.
        if not re.fullmatch(KEY_PATTERN, idempotency_key):
            raise ValidationException(extra=[{"key": "idempotency_key"}])

        async def effect() -> bytes:
            return cast(bytes, (await handler(self, **arguments)).content)

        fingerprint = await _fingerprint(request)
        return json_bytes(await uow.idempotency.once(idempotency_key, fingerprint, effect))

    return cast(Handler, _with_parameters_of_both(with_key, handler))


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
