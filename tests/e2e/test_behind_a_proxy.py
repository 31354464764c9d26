"""The API below a path of an nginx that ends TLS, as deploy/nginx.conf sets it up."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from harness.nginx import nginx_before
from harness.service import one_command
from harness.tls import Authority

_KEY = "k" * 32
_LINK = re.compile(r"""(?:src|href)=["']([^"']+)""")
_SERVER = re.compile(r'"servers":\s*\[\{"url":\s*"([^"]+)"\}\]')


@pytest.fixture(scope="module", params=["", "/shop"], ids=["without ROOT_PATH", "with ROOT_PATH"])
def root_path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def _behind_nginx(
    root_path: str, tree: Path, directory: Path, **variables: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Without ROOT_PATH, nginx takes the path off. With it, nginx passes it on."""
    changes = {"proxy_pass http://orders/;": "proxy_pass http://orders;"} if root_path else {}
    authority = Authority(directory)
    async with (
        one_command(tree, directory, ROOT_PATH=root_path, **variables) as service,
        nginx_before(service.port, directory, authority, **changes) as url,
        httpx.AsyncClient(
            base_url=f"{url}/shop/", verify=authority.trusting, trust_env=False
        ) as client,
    ):
        yield client


@pytest.fixture(scope="module")
async def proxied(
    root_path: str, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    async with _behind_nginx(root_path, tree, tmp_path_factory.mktemp("proxied")) as client:
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
    found = (await proxied.get("users?username=anna")).json()
    assert [user["id"] for user in found["users"]] == [created.json()["id"]]
    too_large = await proxied.post("users", content=b" " * 300_000)
    assert too_large.status_code == 413


async def test_lists_and_reports_are_compressed_and_a_tag_can_still_be_sent_back(
    proxied: httpx.AsyncClient,
) -> None:
    for number in range(50):
        user = {"username": f"user_{number}", "email": f"user{number}@example.com"}
        created = (await proxied.post("users", json={**user, "description": "x" * 2000})).json()
    for path in ("users?count=50", "schema/openapi.json", "docs"):
        answer = await proxied.get(path)
        assert (answer.headers["content-encoding"], answer.is_success) == ("gzip", True)
        assert "Accept-Encoding" in answer.headers["vary"]
        plain = await proxied.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == answer.content
    one = await proxied.get(f"users/{created['id']}")
    assert len(one.content) > 2048 and "content-encoding" not in one.headers
    tag = {"If-Match": one.headers["etag"]}
    changed = await proxied.put(f"users/{created['id']}", json={"description": "y"}, headers=tag)
    assert changed.status_code == 200
    known = {"If-None-Match": changed.headers["etag"]}
    assert (await proxied.get(f"users/{created['id']}", headers=known)).status_code == 304


async def test_what_is_for_the_operator_is_not_published(proxied: httpx.AsyncClient) -> None:
    for path, status in {"metrics": 404, "health/ready": 404, "health/live": 200}.items():
        assert (await proxied.get(path)).status_code == status


async def test_a_browser_logs_in(root_path: str, tree: Path, tmp_path: Path) -> None:
    async with _behind_nginx(root_path, tree, tmp_path, API_KEY=_KEY) as client:
        page = await client.get("orders?count=5", headers={"Accept": "text/html"})
        assert page.status_code == 401
        fields = dict(re.findall('name="(\\w+)" value="([^"]*)"', page.text))
        [action] = re.findall('action="([^"]+)"', page.text)
        origin = {"Origin": f"{client.base_url}".removesuffix("/shop/")}
        form = {**fields, "key": _KEY}
        logged_in = await client.post(page.url.join(action), data=form, headers=origin)
        assert logged_in.status_code == 303
        assert logged_in.url.join(logged_in.headers["location"]) == page.url
        [cookie] = client.cookies.jar
        assert (cookie.path, cookie.secure) == ("/shop", True)
        assert (await client.get(page.url)).json() == {"orders": [], "total": 0}
        assert (await client.post("logout", headers=origin)).status_code == 303
        assert (await client.get(page.url)).status_code == 401
