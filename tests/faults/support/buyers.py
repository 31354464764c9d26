"""Clients that place orders over HTTP."""

import asyncio
import time
from collections import Counter

import httpx

from harness.shop import Shop


class Buyers:
    """Place orders over HTTP without a pause, and record every response. `newest` is the moment of
    the last order that was placed."""

    def __init__(self, client: httpx.AsyncClient, shop: Shop, product_id: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.acknowledged: list[str] = []
        self.slowest = 0.0
        self.newest = 0.0
        self._client = client
        self._shop = shop
        self._product_id = product_id
        self._tasks = [asyncio.create_task(self._buy(number)) for number in range(4)]

    async def _buy(self, buyer: int) -> None:
        for number in range(1_000_000):
            name = f"http-{buyer}-{number}"
            body = self._shop.order_body((self._product_id, 1), external_id=name)
            began = time.monotonic()
            response = await self._client.post("/orders", json=body)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[response.status_code] += 1
            if response.status_code == 201:
                self.acknowledged.append(name)
                self.newest = time.monotonic()
            else:
                check_asked_to_wait(response)
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results), results


def check_asked_to_wait(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/problem+json"
