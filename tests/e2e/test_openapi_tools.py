"""Linters find nothing in the OpenAPI document, and clients that are generated from it work."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.npm import Npm
from harness.service import Service, one_command

pytestmark = pytest.mark.long

REDOCLY = "@redocly/cli@2.77.0"
SPECTRAL = "@stoplight/spectral-cli@6.16.3"
TYPESCRIPT = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3")
PYTHON_GENERATOR = "openapi-python-client==0.29.1"

# From U+10000 on: one character, or a range.
_ASTRAL = re.compile("[\U00010000-\U0010ffff](-[\U00010000-\U0010ffff])?")

_TYPESCRIPT_CLIENT = """\
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

declare const process: { argv: string[] };

const api = createClient<paths>({ baseUrl: process.argv[2]! });
const created = await api.POST("/users", {
    body: { username: "typescript", email: "typescript@example.com" },
});
if (!created.data) throw new Error(created.error.detail);
const read = await api.GET("/users/{user_id}", {
    params: { path: { user_id: created.data.id } },
});
const again = await api.GET("/users/{user_id}", {
    params: {
        path: { user_id: created.data.id },
        header: { "If-None-Match": read.response.headers.get("etag")! },
    },
});
const missing = await api.GET("/users/{user_id}", { params: { path: { user_id: 999999 } } });
const refused = await api.POST("/orders", {
    body: { user_id: created.data.id, delivery_address_id: 1, items: [] },
});
console.log(JSON.stringify({
    username: read.data?.username,
    again: again.response.status,
    missing: missing.error?.detail,
    refused: refused.error?.errors?.[0]?.field,
}));
"""

_PYTHON_CLIENT = """\
import json
import re
import sys

from generated import Client
from generated.api.orders import orders_create
from generated.api.products import products_create, products_list
from generated.models import OrderCreate, OrderLine, Problem, ProductCreate

client = Client(sys.argv[1], raise_on_unexpected_status=True)
for number in range(3):
    product = ProductCreate(name=f"Tea {number}", price="19.90", stock_quantity=2)
    tea = products_create.sync(client=client, body=product)
names, after = [], {}
while True:
    page = products_list.sync_detailed(client=client, count=2, name_prefix="tea ", **after)
    names += [product.name for product in page.parsed.products]
    if not (more := re.search(r'after=([\\w-]+)>; rel="next"', page.headers["link"])):
        break
    after = {"after": more[1]}
order = OrderCreate(
    user_id=999999, delivery_address_id=1, items=[OrderLine(product_id=tea.id, quantity=1)]
)
refusal = orders_create.sync(client=client, body=order)
assert isinstance(refusal, Problem)
print(json.dumps({"names": names, "price": tea.price, "reason": refusal.reason}))
"""


@pytest.fixture(scope="module", name="document", params=["without a key", "with a key"])
async def _document(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """With a key there are more responses, and security schemes."""
    variables = {"API_KEY": "of-a-test"} if request.param == "with a key" else {}
    async with one_command(tree, tmp_path_factory.mktemp("service"), **variables) as service:
        return httpx.get(f"{service.url}/schema/openapi.json").json()


def saved(document: Any, directory: Path) -> None:
    (directory / "openapi.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture(name="generated")
def _generated(service: Service, tmp_path: Path) -> Path:
    """A directory with the document of the running service."""
    saved(httpx.get(f"{service.url}/schema/openapi.json").json(), tmp_path)
    return tmp_path


def test_redocly_finds_nothing(document: Any, tmp_path: Path) -> None:
    npm = Npm(tmp_path, REDOCLY)
    saved(document, tmp_path)
    found = json.loads(npm.tool("redocly", "lint", "openapi.json", "--format=json"))
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, found["problems"]


def test_spectral_finds_nothing(document: Any, tmp_path: Path) -> None:
    """ONE EXCLUSION: Spectral reads a `pattern` without the flag `u`, against JSON Schema. Then a
    range of characters beyond U+FFFF is four surrogates in a wrong order, so these are cut out."""
    npm = Npm(tmp_path, SPECTRAL)
    saved(_without_astral_ranges(document), tmp_path)
    (tmp_path / ".spectral.yaml").write_text('extends: ["spectral:oas"]', encoding="utf-8")
    npm.tool("spectral", "lint", "openapi.json", "--fail-severity=hint")


def _without_astral_ranges(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_astral_ranges(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {key: _without_astral_ranges(value) for key, value in part.items()}
    pattern = inner.get("pattern")
    return {**inner, "pattern": _ASTRAL.sub("", pattern)} if isinstance(pattern, str) else inner


def test_a_generated_typescript_client_works(service: Service, generated: Path) -> None:
    npm = Npm(generated, *TYPESCRIPT)
    (generated / "client.ts").write_text(_TYPESCRIPT_CLIENT, encoding="utf-8")
    npm.tool("openapi-typescript", "openapi.json", "--output", "api.d.ts")
    npm.tool("tsc", "--strict", "--module", "nodenext", "--target", "es2022", "client.ts")
    assert json.loads(npm.run("node", "client.js", service.url)) == {
        "username": "typescript",
        "again": 304,
        "missing": "user 999999 does not exist",
        "refused": "items",
    }


def test_a_generated_python_client_works(service: Service, generated: Path) -> None:
    """The generator's dependencies are not ours, so it gets an environment of its own."""
    if shutil.which("uv") is None:
        pytest.skip("NOT TESTED, because uv is missing: see README.md for how to install it")
    # It knows no pictures.
    (generated / "config.yml").write_text(
        "content_type_overrides: {image/svg+xml: application/octet-stream}", encoding="utf-8"
    )
    source = ("--path", "openapi.json", "--output-path", "generated", "--meta", "none")
    options = ("--config", "config.yml", "--fail-on-warning")
    _with_generator(generated, "openapi-python-client", "generate", *source, *options)
    (generated / "client.py").write_text(_PYTHON_CLIENT, encoding="utf-8")
    assert json.loads(_with_generator(generated, "python", "client.py", service.url)) == {
        "names": ["Tea 0", "Tea 1", "Tea 2"],
        "price": "19.90",
        "reason": "not-found",
    }


def _with_generator(directory: Path, *command: str) -> str:
    environment = ("uv", "run", "--no-project", "--with", PYTHON_GENERATOR)
    run = subprocess.run(
        [*environment, *command],
        cwd=directory,
        capture_output=True,
        check=False,
        text=True,
        timeout=180,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
