from typing import Annotated

from pydantic import ConfigDict, Field

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    NFC,
    Body,
    CreatedAt,
    Email,
    IdOutput,
    SingleLine,
    Stored,
    Text,
    Total,
    UpdatedAt,
    View,
)

Username = Annotated[
    SingleLine,
    Field(
        min_length=1,
        max_length=64,
        examples=["alex_doe"],
        description="unique; capitals make no difference",
    ),
    NFC,
]
EmailAddress = Annotated[
    Email,
    Field(examples=["alex@example.com"], description="unique; capitals make no difference"),
]
Description = Annotated[
    Text, Field(max_length=2000, examples=["Gardener"], description="a note about the user"), NFC
]


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
    created_at: CreatedAt
    updated_at: UpdatedAt


class UserList(ListView):
    users: Annotated[list[UserRead], Field(description="the users of this page")]
    total: Total
