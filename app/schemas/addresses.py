from typing import Annotated

from pydantic import Field

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    NFC,
    Body,
    CreatedAt,
    IdOutput,
    SingleLine,
    Stored,
    Total,
    UpdatedAt,
    View,
)

Street = Annotated[
    SingleLine,
    Field(max_length=200, examples=["Obere Str. 57"], description="the street and the number"),
    NFC,
]
City = Annotated[
    SingleLine, Field(max_length=100, examples=["Berlin"], description="the city or town"), NFC
]
State = Annotated[
    SingleLine, Field(max_length=100, examples=["Berlin"], description="the state or region"), NFC
]
ZipCode = Annotated[
    SingleLine, Field(max_length=20, examples=["12209"], description="the postal code"), NFC
]
Country = Annotated[
    SingleLine, Field(max_length=100, examples=["Germany"], description="the country"), NFC
]


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
    user_id: Annotated[IdOutput, Field(description="the user whose address it is")]
    street: Stored[Street]
    city: Stored[City]
    state: Stored[State | None]
    zip_code: Stored[ZipCode | None]
    country: Stored[Country]
    created_at: CreatedAt
    updated_at: UpdatedAt


class DeliveryAddress(View):
    """The address of an order as it was when the order was placed."""

    street: Stored[Street]
    city: Stored[City]
    state: Stored[State | None]
    zip_code: Stored[ZipCode | None]
    country: Stored[Country]


class AddressList(ListView):
    addresses: Annotated[list[AddressRead], Field(description="the addresses of this page")]
    total: Total
