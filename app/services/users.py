import re
import unicodedata
from collections.abc import Sequence

from app.cache.entities import CachedEntity
from app.cache.reads import ReadThroughCache
from app.database import Database
from app.errors import NotFound
from app.facts import Fact
from app.repositories.users import UserRepository
from app.schemas.pages import PageRequest
from app.schemas.users import UserCreate, UserList, UserRead, UserUpdate
from app.services.after_commit import AfterCommit
from app.services.preconditions import Precondition


async def load_users(database: Database, ids: Sequence[int]) -> dict[int, bytes]:
    """What the cache fills in: the committed rows as JSON. Raises Unavailable."""
    async with database.autocommit() as connection:
        users = await UserRepository(connection).find(ids)
    return {user.id: UserRead.json_of(user) for user in users}


USER = CachedEntity(
    name="user",
    ttl=3600,
    load=load_users,
    deleted_by=frozenset({Fact.USER_CHANGED, Fact.USER_DELETED}),
)


# Joiners, selectors and all else that nobody sees.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


def username_key(username: str) -> str:
    """The same for all names that a reader takes for one: without regard to case, to how a letter
    is composed, to its width, and to what nobody sees."""
    if username.isascii():
        return username.lower()
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", username)).casefold()
    return unicodedata.normalize("NFKC", folded)


class UserService:
    """Raises NotFound for an unknown user, and Duplicate, at the commit at the latest, if another
    user has this username or e-mail address."""

    def __init__(
        self, users: UserRepository, cache: ReadThroughCache, after_commit: AfterCommit
    ) -> None:
        self._users = users
        self._cache = cache
        self._after_commit = after_commit

    async def list(
        self, wanted: PageRequest, *, username: str | None = None, email: str | None = None
    ) -> UserList:
        """`username` finds all that readers take for the same."""
        key = None if username is None else username_key(username)
        found = await self._users.page({"username": key, "email": email}, wanted)
        rows = [UserRead.of(row) for row in found.rows]
        return UserList(users=rows, total=found.total, next=found.next)

    async def read(self, user_id: int) -> bytes:
        """The user as JSON, most often from the cache, and never older than the last acknowledged
        write."""
        return await self._cache.read(user_id)

    async def create(self, body: UserCreate) -> UserRead:
        fields = body.model_dump() | {"username_key": username_key(body.username)}
        return UserRead.of(await self._users.add(fields, is_last=True))

    async def update(
        self, user_id: int, body: UserUpdate, precondition: Precondition | None = None
    ) -> UserRead:
        """Raises VersionMismatch if the precondition does not hold."""
        if precondition and (current := await self._users.lock(user_id)):
            precondition.require(UserRead.of(current))
        fields = body.model_dump(exclude_unset=True)
        stale = USER.key(user_id)
        if "username" in fields:
            key = username_key(body.username)
            changed = await self._users.rename(user_id, key, fields, stale)
        else:
            changed = await self._users.change_and_announce(user_id, fields, stale)
        if changed is None:
            raise NotFound("user", user_id)
        self._after_commit.record(Fact.USER_CHANGED, [user_id], changed.announced)
        return UserRead.of(changed.row)

    async def delete(self, user_id: int) -> None:
        """Delete the user with the user's addresses. Raises StillNeeded while the user has
        orders."""
        removed = await self._users.remove_and_announce(user_id, USER.key(user_id))
        if removed is None:
            raise NotFound("user", user_id)
        self._after_commit.record(Fact.USER_DELETED, [user_id], removed.announced)
