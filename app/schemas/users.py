from typing import Annotated

from pydantic import Field

from app.schemas.types import ABSENT, Body, Email, Line, Text, Timestamp, View

Username = Annotated[Line, Field(min_length=1, max_length=64, examples=["jane_doe"])]
EmailAddress = Annotated[Email, Field(examples=["jane@example.com"])]
Description = Annotated[Text, Field(max_length=2000, examples=["Designer"])]


class UserCreate(Body):
    username: Username
    email: EmailAddress
    description: Description | None = None


class UserUpdate(Body):
    """Absent fields stay; `null` clears the description."""

    username: Username = ABSENT
    email: EmailAddress = ABSENT
    description: Description | None = None


class UserRead(View):
    id: int
    username: str
    email: str
    description: str | None
    created_at: Timestamp
    updated_at: Timestamp | None


class UserList(View):
    users: list[UserRead]
    total: int
