"""The usual handlers of FastAPI, SQLAlchemy and redis-py.

From FastAPI's tutorial: a session per request, from a dependency with `yield`; a `response_model`;
`add`, `commit` and `refresh`. From SQLAlchemy's: one engine and one session maker. In the peer's
favour, cached reads open no session, which most projects would do.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.models.products import Product
from app.models.users import User

# As many connections as the service has. With SQLAlchemy's defaults ten of fifteen are "overflow":
# they are closed when they return to the pool, and opening new ones costs a good deal.
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10, max_overflow=0)
session_maker = async_sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(os.environ["REDIS_URL"])


class UserIn(BaseModel):
    username: str = Field(min_length=1, max_length=64)
    email: str = Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")
    description: str | None = Field(None, max_length=2000)


class UserChange(BaseModel):
    username: str | None = Field(None, min_length=1, max_length=64)
    email: str | None = Field(None, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")
    description: str | None = Field(None, max_length=2000)


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str
    description: str | None
    created_at: datetime
    updated_at: datetime | None


class ProductChange(BaseModel):
    name: str | None = None
    description: str | None = None
    price: Decimal | None = None
    stock_quantity: int | None = None


class ProductOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str | None
    name: str
    description: str | None
    price: Decimal
    stock_quantity: int
    created_at: datetime
    updated_at: datetime | None


async def get_session() -> AsyncIterator[AsyncSession]:
    async with session_maker() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await redis.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def _load(table: type[User] | type[Product], schema: type[BaseModel], id: int) -> Any:
    async with session_maker() as session:
        row = await session.get(table, id)
    if row is None:
        raise HTTPException(status_code=404, detail="not found")
    return schema.model_validate(row)


@app.get("/users/{user_id}", response_model=UserOut)
async def read_user(user_id: int) -> Any:
    key = f"user:{user_id}"
    if cached := await redis.get(key):
        return json.loads(cached)
    user = await _load(User, UserOut, user_id)
    await redis.set(key, user.model_dump_json(), ex=3600)
    return user


@app.get("/products/{product_id}", response_model=ProductOut)
async def read_product(product_id: int) -> Any:
    key = f"product:{product_id}"
    if cached := await redis.get(key):
        return json.loads(cached)
    product = await _load(Product, ProductOut, product_id)
    await redis.set(key, product.model_dump_json(), ex=600)
    return product


@app.get("/uncached/users/{user_id}", response_model=UserOut)
async def read_user_without_cache(user_id: int, session: SessionDep) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise HTTPException(status_code=404, detail="not found")
    return user


@app.post("/users", response_model=UserOut, status_code=201)
async def create_user(body: UserIn, session: SessionDep) -> User:
    user = User(**body.model_dump())
    session.add(user)
    await session.commit()
    await session.refresh(user)
    return user


async def _change(session: AsyncSession, table: type[Any], id: int, body: BaseModel) -> Any:
    row = await session.get(table, id)
    if row is None:
        raise HTTPException(status_code=404, detail="not found")
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(row, name, value)
    row.updated_at = datetime.now(UTC)
    await session.commit()
    await session.refresh(row)
    return row


@app.put("/users/{user_id}", response_model=UserOut)
async def change_user(user_id: int, body: UserChange, session: SessionDep) -> Any:
    user = await _change(session, User, user_id, body)
    await redis.delete(f"user:{user_id}")
    return user


@app.put("/products/{product_id}", response_model=ProductOut)
async def change_product(product_id: int, body: ProductChange, session: SessionDep) -> Any:
    product = ProductOut.model_validate(await _change(session, Product, product_id, body))
    await redis.set(f"product:{product_id}", product.model_dump_json(), ex=600)
    return product
