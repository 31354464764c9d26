from typing import Annotated

from pydantic import Field, SkipValidation

from app.schemas.pages import ListView
from app.schemas.types import ABSENT, Body, DateTimeOutput, IdOutput, SingleLine, Total, View

Street = Annotated[SingleLine, Field(max_length=200, examples=["Obere Str. 57"])]
City = Annotated[SingleLine, Field(max_length=100, examples=["Berlin"])]
State = Annotated[SingleLine, Field(max_length=100, examples=["Berlin"])]
ZipCode = Annotated[SingleLine, Field(max_length=20, examples=["12209"])]
Country = Annotated[SingleLine, Field(max_length=100, examples=["Germany"])]


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
    street: SkipValidation[Street]
    city: SkipValidation[City]
    state: SkipValidation[State | None]
    zip_code: SkipValidation[ZipCode | None]
    country: SkipValidation[Country]
    created_at: DateTimeOutput
    updated_at: DateTimeOutput | None


class DeliveryAddress(View):
    """The address of an order as it was when the order was placed."""

    street: SkipValidation[Street]
    city: SkipValidation[City]
    state: SkipValidation[State | None]
    zip_code: SkipValidation[ZipCode | None]
    country: SkipValidation[Country]


class AddressList(ListView):
    addresses: list[AddressRead]
    total: Total
