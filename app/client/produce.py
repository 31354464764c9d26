"""What producer.py does once its arguments are read."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from app.client.api import Api
from app.client.errors import CliError
from app.client.files import SCHEMAS
from app.client.load import Load
from app.client.samples import Samples
from app.client.sender import Sender
from app.client.stack import running_stack
from app.errors import Unavailable
from app.runtime import tracing
from app.settings import Settings


async def _run(data: Path | None, replaced: Mapping[str, Path | None], settings: Settings) -> bool:
    settings = running_stack(settings)
    async with Api.open(settings) as api:
        if data is None:
            async with Sender.open(settings, api) as sender:
                return await Samples(settings, api, sender).send()
        files = {name: replaced.get(name) or data / f"{name}.jsonl" for name in SCHEMAS}
        load = Load(files, api)
        async with Sender.open(settings, api) if load.needs_queues else nullcontext() as queues:
            return await load.run(queues)


def produce(
    settings: Settings, data: Path | None, program: str = "producer", **replaced: Path | None
) -> None:
    """The samples, or the files of `data`; `replaced` names others to take in their place. Raises
    SystemExit, with one line if something is wrong."""
    tracing.start(settings, "producer")
    logging.disable()  # the libraries log at length what our one line says
    try:
        # Not asyncio.run: it would wait for aiormq's tasks, which never end if RabbitMQ is frozen.
        running = _run(data, replaced, settings)
        with tracing.work("run producer"):
            complete = asyncio.new_event_loop().run_until_complete(running)
    except (CliError, Unavailable) as error:
        unset = isinstance(error, Unavailable) and not settings.has_rabbitmq
        hint = "; or start the service with `python main.py`" if unset else ""
        print(f"{program}: {error}{hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        tracing.stop()
    sys.exit(0 if complete else f"{program}: not everything was applied")
