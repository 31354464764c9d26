from typing import Annotated

from pydantic import ConfigDict, Field

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    NFC,
    Body,
    DateTimeOutput,
    Email,
    IdOutput,
    SingleLine,
    Stored,
    Text,
    Total,
    View,
)

Username = Annotated[SingleLine, Field(min_length=1, max_length=64, examples=["alex_doe"]), NFC]
EmailAddress = Annotated[Email, Field(examples=["alex@example.com"])]
Description = Annotated[Text, Field(max_length=2000, examples=["Gardener"]), NFC]


class UserCreate(Body):
    username: Username
    email: EmailAddress
    description: Description | None = None


class UserUpdate(Body):
    """Absent fields stay as they are; `null` clears the description."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "newemail@example.com"}]})

    username: Username = ABSENT
    email: EmailAddress = ABSENT
    description: Description | None = None


class UserRead(View):
    id: IdOutput
    username: Stored[Username]
    email: Stored[EmailAddress]
    description: Stored[Description | None]
    created_at: DateTimeOutput
    updated_at: DateTimeOutput | None


class UserList(ListView):
    users: list[UserRead]
    total: Total
