"""What clients rely on, in api_contract.txt: nobody changes it unawares."""

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import ROOT
from harness.contract import changes, promises

SNAPSHOT = Path(__file__).with_name("api_contract.txt")
HOW_TO_UPDATE = f"""
If it is meant, delete {SNAPSHOT.name} and run this test again: it writes the file anew.
Commit it with the change, and name in CHANGELOG.md what breaks."""

Json = dict[str, Any]


@pytest.fixture(name="document")
async def _document(client: httpx.AsyncClient) -> Json:
    document: Json = (await client.get("/schema/openapi.json")).json()
    return document


def test_the_document_promises_what_it_did(document: Json) -> None:
    now = promises(document)
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text("".join(f"{line}\n" for line in now), encoding="utf-8")
        pytest.fail(f"{SNAPSHOT.name} was missing and has been written: read its diff")
    breaking, harmless = changes(SNAPSHOT.read_text(encoding="utf-8").splitlines(), now)
    told = ["This may break clients:", *breaking, "This is new:", *harmless, HOW_TO_UPDATE]
    assert not breaking + harmless, "\n".join(told)


def test_the_document_names_the_license_that_there_is(document: Json) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    has_one = any(ROOT.glob("LICEN[CS]E*")) or "license" in project
    assert (document["info"]["license"]["name"] == "All rights reserved") != has_one


def test_what_breaks_a_client_is_told_from_what_does_not(document: Json) -> None:
    changed = deepcopy(document)
    schemas = changed["components"]["schemas"]
    del schemas["UserRead"]["properties"]["email"]
    schemas["ProductRead"]["properties"]["weight"] = {"type": "number"}
    schemas["ProductCreate"]["properties"]["weight"] = {"type": "number"}
    schemas["ProductCreate"]["required"].append("weight")
    schemas["OrderLine"]["properties"]["note"] = {"type": "string"}
    schemas["UserCreate"]["properties"]["email"]["maxLength"] = 50
    del changed["paths"]["/orders"]["post"]["responses"]["409"]
    breaking, harmless = changes(promises(document), promises(changed))
    starts = {line.partition(":")[0] for line in breaking}
    assert starts == {
        "- UserRead.email is given",
        "+ ProductCreate.weight must be sent",
        "- UserCreate.email must be sent",
        "+ UserCreate.email must be sent",
        "- POST /orders 409 is given",
    }
    assert harmless == [
        '+ OrderLine.note may be sent: {"type": "string"}',
        '+ ProductRead.weight is given: {"type": "number"}',
    ]
