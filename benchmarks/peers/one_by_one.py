"""The users and addresses of DIR over HTTP, as producer.py sent them before it had several
connections: with httpx.AsyncClient, one request after another on one connection, each address after
a look at those that the user has. `python -m benchmarks.peers.one_by_one URL DIR`."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text("utf-8").splitlines())


async def main() -> None:
    url, directory = sys.argv[1], Path(sys.argv[2])
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        ids = {}
        for user in _rows(directory / "users.jsonl"):
            made = await client.post("/users", json=user)
            ids[user["username"]] = made.raise_for_status().json()["id"]
        for address in _rows(directory / "addresses.jsonl"):
            path = f"/users/{ids[address.pop('username')]}/addresses"
            known = await client.get(path, params={"count": 100})
            if not known.raise_for_status().json()["total"]:
                (await client.post(path, json=address)).raise_for_status()


if __name__ == "__main__":
    asyncio.run(main())
