"""Every command that README.md, CONTRIBUTING.md and docs/ tell the reader to type exists."""

import ast
import importlib
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import dropwhile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from app import web
from app.container import Container
from app.settings import ROOT, Settings
from harness.kubernetes import MISSING, can_build, manifests, of_kind

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TASKS = {
    name
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["poe"]["tasks"]
    if not name.startswith("_")
}
# The tag by which one file of Compose takes something out of another.
yaml.SafeLoader.add_constructor("!reset", lambda *_: None)


def services_of(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))["services"]
    return services


SERVICES = services_of("docker-compose.yml")
# Programs that are not ours, on the reader's machine or in the containers of the servers.
FOREIGN = {"redis-cli", "psql", "pg_dump", "pg_restore", "createdb", "rabbitmqctl", "git"}
FOREIGN |= {"openssl", "tr", "mkdir", "echo"}
# For the shells of containers.
FOREIGN |= {"nc", "printf"}
COMPOSE_COMMANDS = {"up", "ps", "logs", "restart", "down", "exec", "build", "pull", "config"}
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
_SEPARATORS = {"&&", "||", ";", "|"}
Words = list[str]


class Command(NamedTuple):
    page: str
    directory: Path
    words: Words


def split(text: str) -> Iterator[Words]:
    """The simple commands of a line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: Words = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            words.append(word)
        elif words:
            yield words
            words = []


def walk(text: str, directory: Path) -> Iterator[tuple[Path, Words]]:
    """Each command and the directory in which it is started."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in split(line):
            yield directory, words
            if words[0] == "cd":
                directory = directory / words[1]


def commands_of(page: Path) -> Iterator[Command]:
    for block in _BLOCK.findall(page.read_text("utf-8")):
        for directory, words in walk(block, ROOT):
            yield Command(page.name, directory, words)


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def check(words: Words, directory: Path) -> None:
    while _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    program, rest = words[0].rpartition("/")[2], words[1:]
    if program in FOREIGN or program == "curl":
        return  # the URLs of curl have a test of their own
    if known := CHECKS.get(program):
        known(rest, directory)
        return
    assert Path(sys.executable).with_name(program).exists(), f"{program} is not installed"


def check_uv(words: Words, directory: Path) -> None:
    assert words[0] in ("run", "sync"), words
    if words[0] == "run":
        words = [word for word in words[1:] if word != "--no-sync"]
        (check_python if words[0].endswith(".py") else check)(words, directory)


def check_python(words: Words, directory: Path) -> None:
    if words[0] == "-m":
        if words[1] != "venv":
            usage(*words)
        return
    ast.parse((directory / words[0]).read_text("utf-8"))
    options = [word for word in words[1:] if word.startswith("-")]
    known = usage(words[0]) if options else ""
    assert all(option in known for option in options), known


def check_pip(words: Words, _: Path) -> None:
    assert words == ["install", "uv"], words


def check_taskiq(words: Words, _: Path) -> None:
    usage("-m", "taskiq", words[0])
    module, name = words[1].split(":")
    assert hasattr(importlib.import_module(module), name), words[1]


def check_poe(words: Words, _: Path) -> None:
    assert not words or words[0] in TASKS, words


def check_alembic(words: Words, directory: Path) -> None:
    assert (directory / "alembic.ini").exists(), "alembic must be started in app/"
    known = usage("-m", "alembic", words[0])
    assert all(word in known for word in words if word.startswith("-")), known


def check_kubectl(words: Words, directory: Path) -> None:
    """What follows `--` runs in a pod. kubectl itself says which verbs and options it knows."""
    if not can_build():
        pytest.skip(MISSING)
    if "--" in words:
        words, inner = words[: words.index("--")], words[words.index("--") + 1 :]
        check(inner, directory)
    done = subprocess.run(
        ["kubectl", *words, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    verb = words[2] if words[0] == "-n" else words[0]
    assert f"kubectl {verb}" in done.stdout, words
    for option, value in itertools.pairwise(words):
        if option == "-k":
            assert (directory / value / "kustomization.yaml").exists(), value
        if option == "-f":
            assert (directory / value).exists(), value
        if option == "-n":
            assert value in of_kind("large", "Namespace"), value
    known = {
        f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"
        for manifest in manifests("large")
    }
    assert {word for word in words if re.fullmatch("[a-z]+/[a-z-]+", word)} <= known


def check_docker(words: Words, directory: Path) -> None:
    if words[0] in ("tag", "push"):
        return
    if words[0] == "exec":
        names = {service["container_name"] for service in SERVICES.values()}
        options, container, *inner = words[1:]
        assert options.startswith("-") and container in names, words
        check(inner, directory)
        return
    words = words[words.index("compose") + 1 :]
    services = set(SERVICES)
    while words[0] == "-f":
        services |= set(services_of(words[1]))
        words = words[2:]
    command, *rest = words
    assert command in COMPOSE_COMMANDS, words
    if command == "exec":
        service, *inner = dropwhile(lambda word: word[0] == "-", rest)
        assert service in services, words
        check(inner, directory)
    else:  # `--scale app=2` names a service too
        assert {word.partition("=")[0] for word in rest if word[0] != "-"} <= services, words


def check_shell(words: Words, directory: Path) -> None:
    if words[0] != "-c":
        subprocess.run(["bash", "-n", directory / words[0]], check=True, timeout=10)
        return
    for place, inner in walk(words[1], directory):
        check(inner, place)


def check_path(words: Words, directory: Path) -> None:
    assert (directory / words[0]).exists() or words[0].startswith(".venv/"), words


CHECKS: dict[str, Callable[[Words, Path], None]] = {
    "uv": check_uv,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "taskiq": check_taskiq,
    "alembic": check_alembic,
    "poe": check_poe,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "sh": check_shell,
    "bash": check_shell,
    "cd": check_path,
    "source": check_path,
}


@cache
def usage(*arguments: str) -> str:
    """The program's help text; with `--help` at the end, nothing is started."""
    command = [sys.executable, *arguments, "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 30
    assert {command.page for command in COMMANDS} >= {"README.md", "running.md", "running.ru.md"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}: {shlex.join(c.words)}")
def test_the_command_exists(command: Command) -> None:
    check(command.words, command.directory)


async def test_the_urls_exist() -> None:
    """Those of `curl`, and those in the text."""
    async with Container.open(Settings(_env_file=None)) as container:  # it connects to nothing
        transport = httpx.ASGITransport(web.create_app(container, web.new_places()))  # type: ignore[arg-type]
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        paths = (await client.get("/schema/openapi.json")).json()["paths"]
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]
    known += ["/docs", "/docs/queues", "/metrics", "/schema/openapi.json", ""]
    found = re.findall(r"http://localhost:8000[^\s\"'`)>|]*", "".join(map(_text, PAGES)))
    assert found
    for url in found:
        path = urlsplit(url).path.rstrip("/.,;:")
        assert any(re.fullmatch(pattern, path) for pattern in known), url


def test_the_links_point_to_existing_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", _text(page)):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def _text(page: Path) -> str:
    return page.read_text("utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "uv run python no_such.py",
        "uv run python producer.py --no-such-option",
        "uv run no-such-program",
        "docker compose logs -f no_such_service",
        "docker compose exec app sh -c 'cd app && uv run no-such-program'",
        "docker exec -it no_such_container psql",
        "uv run taskiq worker app.scheduler:no_such",
        "uv run python -m app no-such-command",
        "uv run poe no-such-task",
        "alembic upgrade head",
        "cd no_such_directory",
        "bash no/such/script",
        "kubectl no-such-verb",
        "kubectl apply -k deploy/no-such-overlay",
        "kubectl -n order-service rollout status deployment/no-such",
        "kubectl -n order-service exec deployment/worker -- python -m app no-such-command",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, OSError, subprocess.CalledProcessError, ValueError)):
        for words in split(line):
            check(words, ROOT)


def test_the_tasks_are_those_that_contributing_names() -> None:
    rows = re.findall(r"^\| (`.*?) \|", _text(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)[^`]*`", row)} == TASKS


def test_every_container_has_limits_of_memory_and_processes() -> None:
    services = SERVICES.values()
    assert all({"mem_limit", "pids_limit"} <= service.keys() for service in services)
