from typing import Any

from app.schemas.types import View


class FieldError(View):
    field: str
    message: str


class Problem(View):
    """An error, as RFC 9457 writes it.

    `reason` is a word for programs, `errors` names the invalid fields, `facts` what the refusal
    depends on: `short` for an order that asks for more than there is."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    reason: str | None = None
    errors: list[FieldError] | None = None
    facts: dict[str, Any] | None = None
