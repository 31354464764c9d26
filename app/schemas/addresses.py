from typing import Annotated

from pydantic import Field

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    NFC,
    Body,
    DateTimeOutput,
    IdOutput,
    SingleLine,
    Stored,
    Total,
    View,
)

Street = Annotated[SingleLine, Field(max_length=200, examples=["Obere Str. 57"]), NFC]
City = Annotated[SingleLine, Field(max_length=100, examples=["Berlin"]), NFC]
State = Annotated[SingleLine, Field(max_length=100, examples=["Berlin"]), NFC]
ZipCode = Annotated[SingleLine, Field(max_length=20, examples=["12209"]), NFC]
Country = Annotated[SingleLine, Field(max_length=100, examples=["Germany"]), NFC]


class AddressCreate(Body):
    street: Street
    city: City
    state: State | None = None
    zip_code: ZipCode | None = None
    country: Country


class AddressUpdate(Body):
    """Absent fields stay as they are; `null` clears state and zip_code."""

    street: Street = ABSENT
    city: City = ABSENT
    state: State | None = None
    zip_code: ZipCode | None = None
    country: Country = ABSENT


class AddressRead(View):
    id: IdOutput
    user_id: IdOutput
    street: Stored[Street]
    city: Stored[City]
    state: Stored[State | None]
    zip_code: Stored[ZipCode | None]
    country: Stored[Country]
    created_at: DateTimeOutput
    updated_at: DateTimeOutput | None


class DeliveryAddress(View):
    """The address of an order as it was when the order was placed."""

    street: Stored[Street]
    city: Stored[City]
    state: Stored[State | None]
    zip_code: Stored[ZipCode | None]
    country: Stored[Country]


class AddressList(ListView):
    addresses: list[AddressRead]
    total: Total
