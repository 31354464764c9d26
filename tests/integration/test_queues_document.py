"""/schema/asyncapi.json: its examples fit the schemas, work when they are sent, and what comes back
fits too."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from app.consumers.handlers import HANDLERS
from app.consumers.parsing import parse_body
from app.container import Container
from app.queues import CONSUMED
from app.settings import ROOT
from harness.npm import Npm
from harness.queues import QueueClient
from harness.rabbitmq import RabbitMQ
from harness.reports import build
from harness.shop import Shop

TRANSPORTS = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
PARSER = "@asyncapi/parser@3.6.3"
_CLIENT = re.compile(r"^```python\n(import json, pika\n.*?)^```$", re.MULTILINE | re.DOTALL)
_PARSE = """\
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
const { document, diagnostics } = await new Parser().parse(readFileSync("asyncapi.json", "utf8"));
console.log(JSON.stringify({
    queues: document?.allChannels().all().map((channel) => channel.id()),
    found: diagnostics.map(({ code, path, message }) => ({ code, path, message })),
}));
"""

Json = dict[str, Any]


@pytest.fixture(name="document")
async def _document(client: httpx.AsyncClient) -> Json:
    document: Json = (await client.get("/schema/asyncapi.json")).raise_for_status().json()
    return document


def message_of(document: Json, channel: str) -> Json:
    (reference,) = document["channels"][channel]["messages"].values()
    message: Json = document["components"]["messages"][reference["$ref"].split("/")[-1]]
    return message


def check(instance: Any, schema: Json, document: Json) -> None:
    root = {**schema, "components": document["components"]}
    jsonschema_rs.validator_for(root, validate_formats=True).validate(instance)


def test_every_queue_and_field_is_described(document: Json) -> None:
    assert set(document["channels"]) == {*CONSUMED, "report", "reply"}
    for channel in document["channels"].values():
        assert channel["description"], "give the effect a docstring: app/consumers/handlers.py"
    assert not [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, rules in schema.get("properties", {}).items()
        if not rules.get("description")
    ], "add `Field(description=...)`"


def test_the_examples_fit_the_schemas_and_the_handlers(document: Json) -> None:
    for channel in document["channels"]:
        message = message_of(document, channel)
        for example in message["examples"]:
            check(example["payload"], message["payload"], document)
            check(example["headers"], message["headers"], document)
    for queue, handler in HANDLERS.items():
        (example,) = message_of(document, queue)["examples"]
        parse_body(json.dumps(example["payload"]).encode(), handler.schema)


@TRANSPORTS
@pytest.mark.usefixtures("consumers", "shop")
async def test_the_examples_work_in_document_order(
    document: Json, queues: QueueClient, container: Container
) -> None:
    """On an empty shop, with one user who has one address."""
    reply_to, replies = await queues.reply_address()
    for queue in CONSUMED:
        (example,) = message_of(document, queue)["examples"]
        message_id = example["headers"]["message_id"]
        correlation_id = example["headers"]["correlation_id"]
        await queues.send(queue, example["payload"], message_id, reply_to, correlation_id)
        reply = json.loads(await asyncio.wait_for(replies.get(), 10))
        check(reply, message_of(document, "reply")["payload"], document)
        assert (reply["queue"], reply["status"]) == (queue, "applied"), reply
    await build(container)
    report, wanted = await queues.take("report"), message_of(document, "report")
    check(report.json, wanted["payload"], document)
    check({**report.headers, "message_id": report.message_id}, wanted["headers"], document)
    assert report.json["reports_count"] == 1 and "report_date" in report.headers


@pytest.mark.parametrize("transport", ["rabbitmq"])
@pytest.mark.usefixtures("consumers")
async def test_the_client_of_the_documentation(shop: Shop, rabbitmq: RabbitMQ) -> None:
    await shop.product(stock=2)
    (program,) = _CLIENT.findall((ROOT / "docs" / "messages.md").read_text("utf-8"))
    program = re.sub(r'"amqp://[^"]+"', repr(rabbitmq.url), program)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    outcome = json.loads(out)
    assert (outcome["status"], outcome["result_id"]) == ("applied", 1)


@pytest.mark.long
async def test_the_parser_accepts_the_document(document: Json, tmp_path: Path) -> None:
    npm = Npm(tmp_path, PARSER)
    (tmp_path / "asyncapi.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "parse.mjs").write_text(_PARSE, encoding="utf-8")
    parsed = json.loads(npm.run("node", "parse.mjs"))
    assert parsed["queues"] == list(document["channels"])
    # FastStream writes version 3.0.0: there is a 3.1.0.
    assert [found["code"] for found in parsed["found"]] == ["asyncapi-latest-version"], parsed
