"""The API below a path of an nginx that ends TLS, as deploy/nginx.conf sets it up."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from harness.nginx import nginx_before
from harness.service import one_command
from harness.tls import Authority

_LINK = re.compile(r"""(?:src|href)=["']([^"']+)""")
_SERVER = re.compile(r'"servers":\s*\[\{"url":\s*"([^"]+)"\}\]')


@pytest.fixture(scope="module", params=["", "/shop"], ids=["without ROOT_PATH", "with ROOT_PATH"])
def root_path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def proxied(
    root_path: str, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """Without ROOT_PATH, nginx takes the path off. With it, nginx passes it on."""
    tmp_path = tmp_path_factory.mktemp("proxied")
    variables = {"ROOT_PATH": root_path} if root_path else {}
    changes = {"proxy_pass http://orders/;": "proxy_pass http://orders;"} if root_path else {}
    authority = Authority(tmp_path)
    async with (
        one_command(tree, tmp_path, **variables) as service,
        nginx_before(service.port, tmp_path, authority, **changes) as url,
        httpx.AsyncClient(
            base_url=f"{url}/shop/", verify=authority.trusting, trust_env=False
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("page", ["docs", "docs/"])
async def test_the_documentation_finds_its_files_and_the_api(
    page: str, proxied: httpx.AsyncClient
) -> None:
    shown = (await proxied.get(page)).raise_for_status()
    links = _LINK.findall(shown.text)
    assert len(links) == 4
    for link in links:
        assert (await proxied.get(urljoin(f"{shown.url}", link))).status_code == 200
    [root] = _SERVER.findall(shown.text)
    assert urljoin(f"{shown.url}", root) == f"{proxied.base_url}"


async def test_the_document_names_the_root_of_the_api(
    root_path: str, proxied: httpx.AsyncClient
) -> None:
    found = (await proxied.get("schema/openapi.json")).raise_for_status()
    assert found.json()["servers"] == [{"url": root_path or "/"}]


async def test_pages_of_this_origin_may_write_and_others_not(proxied: httpx.AsyncClient) -> None:
    user = {"username": "anna", "email": "anna@example.com"}
    origin = f"{proxied.base_url}".removesuffix("/shop/")
    foreign = await proxied.post("users", json=user, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    created = await proxied.post("users", json=user, headers={"Origin": origin})
    assert created.status_code == 201
    assert re.fullmatch("[0-9a-f]{32}", created.headers["X-Request-Id"])
    assert (await proxied.get("users")).json()["total"] == 1
    too_large = await proxied.post("users", content=b" " * 300_000)
    assert too_large.status_code == 413


async def test_what_is_for_the_operator_is_not_published(proxied: httpx.AsyncClient) -> None:
    for path, status in {"metrics": 404, "health/ready": 404, "health/live": 200}.items():
        assert (await proxied.get(path)).status_code == status
