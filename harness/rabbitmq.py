"""A private RabbitMQ: Debian's server with ports, cookie, data and epmd of its own."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import aio_pika

from app.embedded.ports import LOOPBACK, free_port
from app.queues import DEAD_TASKS, TASKS, Queue
from harness.processes import Process

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
MISSING = "RabbitMQ's server is missing: run `apt-get install -y rabbitmq-server`, or `tests/run`"
VHOST, USER, PASSWORD = "local", "guest", "guest"

# All that this service declares, including TaskIQ's queues.
_QUEUES = [*Queue, *(queue.dead for queue in Queue), TASKS, DEAD_TASKS]
_CONFIG = f"""\
default_vhost = {VHOST}
default_user = {USER}
default_pass = {PASSWORD}
listeners.tcp.1 = {LOOPBACK}:{{port}}
"""


_MANAGEMENT = f"""\
management.tcp.ip = {LOOPBACK}
management.tcp.port = {{port}}
"""


class RabbitMQAccess:
    """Where RabbitMQ is, for the application and for clients."""

    def __init__(self, port: int, vhost: str = VHOST) -> None:
        self.host = LOOPBACK
        self.port = port
        self.vhost = vhost

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@{self.host}:{self.port}/{self.vhost}"

    @property
    def variables(self) -> dict[str, str]:
        """The settings that point the application there."""
        return {
            "RABBITMQ_HOST": self.host,
            "RABBITMQ_PORT": str(self.port),
            "RABBITMQ_VHOST": self.vhost,
            "RABBITMQ_USER": USER,
            "RABBITMQ_PASSWORD": PASSWORD,
        }


class RabbitMQ(RabbitMQAccess):
    """A node whose data, in `directory`, survive a stop and a kill. With `managed` it has the
    management API too."""

    def __init__(self, directory: Path, *, managed: bool = False) -> None:
        port, self.management_port, epmd_port, distribution_port = free_ports(4)
        super().__init__(port)
        self._directory = directory
        self._managed = managed
        self._environment = node_environment(directory, epmd_port, distribution_port)
        # A name server of our own: the one that Erlang would start serves the whole machine and
        # outlives the tests.
        self._epmd = Process(
            "epmd",
            ["epmd", "-port", str(epmd_port), "-address", LOOPBACK],
            {},
            directory=directory,
            log=directory / "epmd.log",
        )
        self.node = Process(
            "RabbitMQ",
            [PROGRAMS / "rabbitmq-server"],
            self._environment,
            directory=directory,
            log=directory / "rabbitmq.log",
        )

    async def start(self) -> None:
        if self.node.running:
            return
        assert (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd"), MISSING
        config, plugins = _CONFIG.format(port=self.port), ""
        if self._managed:
            config += _MANAGEMENT.format(port=self.management_port)
            plugins = "rabbitmq_management"
        (self._directory / "rabbitmq.conf").write_text(config)
        (self._directory / "enabled_plugins").write_text(f"[{plugins}].")
        if not self._epmd.running:
            self._epmd.start()
        self.node.start()
        await self.node.says("Server startup complete", seconds=90)

    async def stop(self) -> None:
        await self.node.stop(seconds=30)

    def kill(self) -> None:
        self.node.kill()

    def close(self) -> None:
        self.node.kill()
        self._epmd.kill()

    async def control(self, *arguments: str) -> str:
        """Run rabbitmqctl, which must succeed, and return its output."""
        return await control(self._directory, self._environment, *arguments)

    async def delete_queues(self) -> None:
        """Bring the node back to what it was at its first start."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            for name in _QUEUES:
                await channel.queue_delete(name)


def node_environment(directory: Path, epmd_port: int, distribution_port: int) -> dict[str, str]:
    return {
        "HOME": str(directory),  # Erlang keeps its cookie there
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_NODENAME": f"test{os.getpid()}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(directory / "feature_flags"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_QUORUM_DIR": str(directory / "quorum"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_LOGS": "-",
        # Makes the start script exec the server, so that our signals reach the server itself.
        "RUNNING_UNDER_SYSTEMD": "1",
    }


def free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


async def control(directory: Path, environment: Mapping[str, str], *arguments: str) -> str:
    process = Process(
        "rabbitmqctl",
        [PROGRAMS / "rabbitmqctl", "--quiet", *arguments],
        environment,
        directory=directory,
        log=directory / "rabbitmqctl.log",
    )
    process.start()
    assert await process.ends(60) == 0, process.output
    return process.output
