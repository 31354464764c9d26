"""Three nodes of RabbitMQ, each with an address of its own on this machine, so that the traffic
between them can be told from that of their clients."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.processes import Process, run
from harness.rabbitmq import (
    MISSING,
    PASSWORD,
    PROGRAMS,
    USER,
    VHOST,
    control,
    free_ports,
    node_environment,
)
from harness.waiting import eventually

# A node that hears nothing from another for so long takes it for dead.
_TICK_SECONDS = 4
_CONFIG = """\
default_user = {user}
default_pass = {password}
listeners.tcp.1 = {host}:{port}
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
{nodes}
"""
_NETWORK = f"127.77.{os.getpid() % 250}"


class Node:
    def __init__(self, number: int, directory: Path, port: int, epmd_port: int) -> None:
        self.host, self.port = f"{_NETWORK}.{number}", port
        self.name = _name(number)
        self._directory = directory / f"node{number}"
        self._directory.mkdir()
        [distribution_port] = free_ports(1)
        here = self.host.replace(".", ",")
        self._environment = {
            **node_environment(self._directory, epmd_port, distribution_port),
            "HOME": str(directory),  # one cookie for all
            "ERL_INETRC": str(directory / "inetrc"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{{here}}} "
            f"inet_dist_connect_options [{{ip,{{{here}}}}}] net_ticktime {_TICK_SECONDS}",
        }
        self.process = Process(
            f"RabbitMQ {number}",
            [PROGRAMS / "rabbitmq-server"],
            self._environment,
            directory=self._directory,
            log=self._directory / "rabbitmq.log",
        )

    def configure(self, count: int) -> None:
        nodes = "\n".join(
            f"cluster_formation.classic_config.nodes.{n} = {_name(n)}" for n in range(1, count + 1)
        )
        (self._directory / "rabbitmq.conf").write_text(
            _CONFIG.format(
                user=USER, password=PASSWORD, host=self.host, port=self.port, nodes=nodes
            )
        )
        (self._directory / "enabled_plugins").write_text("[].")

    async def start(self) -> None:
        self.process.start()
        await self.process.says("Server startup complete", seconds=120)

    async def control(self, *arguments: str) -> str:
        return await control(self._directory, self._environment, *arguments)


def _name(number: int) -> str:
    return f"test{number}@n{number}"


class Cluster:
    """In the vhost, a queue that is declared without arguments is a quorum queue."""

    def __init__(self, directory: Path, count: int = 3) -> None:
        port, epmd_port = free_ports(2)
        hosts = {n: f"{_NETWORK}.{n}" for n in range(1, count + 1)}
        (directory / "inetrc").write_text(
            "{lookup, [file, native]}.\n"
            + "".join(f'{{host, {{{h.replace(".", ",")}}}, ["n{n}"]}}.\n' for n, h in hosts.items())
        )
        self._directory = directory
        self._epmd = Process(
            "epmd",
            ["epmd", "-port", str(epmd_port), "-address", ",".join(hosts.values())],
            {},
            directory=directory,
            log=directory / "epmd.log",
        )
        self.nodes = [Node(n, directory, port, epmd_port) for n in hosts]
        self._parted: list[list[str]] = []

    async def start(self) -> None:
        assert (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd"), MISSING
        self._epmd.start()
        for node in self.nodes:
            node.configure(len(self.nodes))
            await node.start()  # one after the other: together they would form several clusters
        first = self.nodes[0]
        await first.control("add_vhost", VHOST, "--default-queue-type", "quorum")
        await first.control("set_permissions", "-p", VHOST, USER, ".*", ".*", ".*")

    async def leader(self, queue: str) -> Node:
        """The node that leads the queue."""
        listed = await self._any().control("list_queues", "-p", VHOST, "name", "leader", "online")
        [line] = [line for line in listed.splitlines() if line.split("\t")[0] == queue]
        name = line.split("\t")[1]
        return next(node for node in self.nodes if node.name == name)

    async def is_whole(self) -> bool:
        for node in self.nodes:
            listed = await node.control("eval", "length(rabbit_nodes:all_running()).")
            if listed.strip() != f"{len(self.nodes)}":
                return False
        return True

    def _any(self) -> Node:
        return next(node for node in self.nodes if node.process.running)

    async def part(self, node: Node) -> None:
        """Nothing passes between this node and the others any more; clients reach all.

        Needs root."""
        for other in self.nodes:
            if other is not node:
                for source, target in ((node, other), (other, node)):
                    rule = ["INPUT", "-s", source.host, "-d", target.host, "-j", "DROP"]
                    await self._iptables("-I", *rule)
                    self._parted.append(rule)

    async def heal(self) -> None:
        while self._parted:
            await self._iptables("-D", *self._parted.pop())

    async def _iptables(self, *arguments: str) -> None:
        log = self._directory / "iptables.log"
        program = shutil.which("iptables", path="/usr/sbin:/sbin") or "iptables"
        await run(
            Process("iptables", [program, "-w", *arguments], {}, directory=self._directory, log=log)
        )

    async def mended(self, seconds: float = 90) -> None:
        """Wait until all nodes are members again."""
        await eventually(self.is_whole, seconds, lambda: "the cluster is not whole")

    async def close(self) -> None:
        await self.heal()
        for node in self.nodes:
            node.process.kill()
        self._epmd.kill()


@asynccontextmanager
async def cluster_in(directory: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()
