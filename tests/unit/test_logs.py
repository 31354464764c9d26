"""Each event is one line, whatever its values are."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest

from app.settings import ROOT

SCRIPT = r"""
import logging, sys
import structlog
from app import logs

logs.configure("INFO", sys.argv[1], "web")
log = structlog.get_logger("app.test")
evil = "a\r\nb\x1b[31mred\x00\x9b2J\u2028c"
log.info("event of ours", text=evil, nested={"text": evil}, number=7)
log.debug("not shown")
log.warning(evil)
logging.getLogger("library").warning("of a library: %s", evil)
with structlog.contextvars.bound_contextvars(message_id=evil):
    log.info("bound")
if sys.argv[2:]:
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("failed")
"""
CONTROL = [chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code != 10]


def written(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == b""
    return done.stderr.decode()


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_an_event_is_one_line_without_control_characters(fmt: str) -> None:
    output = written(fmt).replace("\n    ", " ")  # a long line goes on below its beginning
    assert output.count("\n") == 4 and output.endswith("\n")
    assert [char for char in CONTROL if char in output] == []
    assert "not shown" not in output


def test_a_traceback_in_a_terminal_has_no_control_characters() -> None:
    output = written("console", "x")
    assert "Traceback" in output and "ValueError: a\\x0d\nb\\x1b[31mred" in output
    assert [char for char in CONTROL if char in output] == []


def test_lines_in_a_terminal_fit_it_and_are_in_words() -> None:
    script = """
import logging
from http import HTTPStatus
import structlog
from app import logs
from app.queues import Queue

logs.configure("INFO", "console", "web")
requests = logs.RequestLog("app.rest")
requests.write(20, "a" * 32, "GET", "/users/{user_id}", "/users/7", HTTPStatus.NOT_FOUND, 1.2, {})
requests.write(20, "a" * 32, "GET", "/x", "/" + "x" * 500, 200, 1.2, {"reason": "because of " * 30})
structlog.get_logger("app.x").warning("held", queue=Queue.ORDER)
logging.getLogger("library").error("said")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert max(map(len, lines)) <= 120 and "".join(lines).count("x") >= 500
    assert (
        lines[0][9:] == f"[info] GET /users/7: 404 Not Found milliseconds=1.2 request_id={'a' * 32}"
    )
    assert [line[9:] for line in lines[-2:]] == [
        "[warning] held queue=order",
        "[error] said [library]",
    ]


def test_a_json_line_has_every_field() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in written("json", "x").splitlines()]
    evil = "a\r\nb\x1b[31mred\x00\x9b2J\u2028c"
    first = lines[0]
    assert first["message"] == "event of ours"
    assert (first["text"], first["nested"], first["number"]) == (evil, {"text": evil}, 7)
    assert (first["level"], first["logger"], first["process"]) == ("info", "app.test", "web")
    assert first["timestamp"].endswith("Z")
    assert lines[1]["message"] == evil
    assert lines[2]["message"] == f"of a library: {evil}"
    assert lines[2]["logger"] == "library"
    assert lines[3]["message_id"] == evil
    assert lines[4]["message"] == "failed"
    assert "ValueError: a" in lines[4]["exception"]


_CONFIGURE = "import structlog; from app import logs; logs.configure('INFO', 'json', 'web')\n"


def start(script: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{_CONFIGURE}log = structlog.get_logger('x')\n{script}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1"},
        **streams,
    )


def run(script: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    with start(script, **streams) as process:
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    done = run(
        "log.info('odd', half='\\ud800', error=ValueError('\u65e5'), big=10**30, obj={'k': object})",
        stderr=subprocess.PIPE,
    )
    line = json.loads(done.stderr)
    assert (line["half"], line["error"], line["big"]) == ("\ud800", "ValueError('\u65e5')", 10**30)
    assert line["obj"] == {"k": "<class 'object'>"}


REQUESTS = """
requests = logs.RequestLog('app.test')
for name in (logs.RequestLog.json_name, None):
    assert (name is None) == (logs.RequestLog.json_name is None)
    told = {'reason': 'not-found', 'detail': 'user "1" \\u65e5'}
    requests.write(20, 'a.b:c-1', 'G"ET', '/users/{user_id}', '/users/1"\\n\\xe9', 200, 0.5, told)
    requests.write(10, 'a', 'GET', '/health/live', '/health/live', 200, 0.0, {})
    logs.RequestLog.json_name = None
"""


def test_the_line_of_a_request_is_what_structlog_would_write() -> None:
    by_hand, by_structlog = run(REQUESTS, stderr=subprocess.PIPE).stderr.splitlines()
    assert _without_time(by_hand) == _without_time(by_structlog) != by_hand


def _without_time(line: bytes) -> bytes:
    return re.sub(rb'"timestamp": "[-\dT:.]+Z"', b"", line)


THINNED = """
now = 5.0
logs.time.monotonic = lambda: now
def write(status, is_ordinary, level=20):
    line = (level, str(status), 'GET', '/users', '/users', status, 1.0, {})
    requests.write(*line, is_ordinary=is_ordinary)
for by_hand in (True, False):
    logs.configure('INFO', 'json', 'web')
    logs.RequestLog.ordinary = logs.Thinned(2)
    requests = logs.RequestLog('app.test')
    if not by_hand:
        logs.RequestLog.json_name = None
    for n in range(5):
        write(200, True)
    write(204, True, 10)  # a level that is not written tells nothing
    write(404, False)
    write(201, False)
    write(200, True)
    now += 1
    write(200, True)
"""


def test_of_ordinary_requests_some_are_left_out_and_counted() -> None:
    lines = [json.loads(line) for line in run(THINNED, stderr=subprocess.PIPE).stderr.splitlines()]
    told = [(line["status"], line.get("left_out", 0)) for line in lines]
    assert told == [(200, 0), (200, 0), (404, 3), (201, 0), (200, 1)] * 2
    assert _without_times(lines[:5]) == _without_times(lines[5:])


def _without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line | {"timestamp": ""} for line in lines]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_line_that_cannot_be_written_raises_nothing() -> None:
    with open("/dev/full", "wb") as full:
        done = run("for n in range(10_000): log.info('x')\nprint('alive')", stdout=-1, stderr=full)
    assert done.stdout == b"alive\n"


LOOPS = """
import asyncio, os
log.info('before the loop')
loop = asyncio.new_event_loop()
loop.call_soon(lambda: (loop.stop(), log.info('of a loop that ends')))
loop.run_forever()
async def say():
    log.info('of a turn'); log.info('of the same turn')
    await asyncio.sleep(0)
    os._exit(0)
asyncio.run(say())
"""


def test_no_line_waits_longer_than_one_iteration_of_the_loop() -> None:
    """Like a crash, `os._exit` flushes nothing."""
    done = run(LOOPS, stderr=subprocess.PIPE)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == [
        "before the loop",
        "of a loop that ends",
        "of a turn",
        "of the same turn",
    ]


def test_without_a_loop_no_line_waits() -> None:
    done = run("import os\nlog.info('x')\nos._exit(0)", stderr=subprocess.PIPE)
    assert json.loads(done.stderr)["message"] == "x"


STANDING = """
import logging, sys
from app.metrics import LOG_LINES_DROPPED
for n in range(20_000):
    log.info('x' * 100)
logging.getLogger('library').warning('of a library')
print('of anybody', file=sys.stderr)
print(int(LOG_LINES_DROPPED._value.get()), flush=True)
input()
"""


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_reader_that_stands_still_stops_nobody_and_learns_what_it_missed(kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "socket":
        ends = socket.socketpair()
        reader, writer = (end.detach() for end in ends)
    else:
        reader, writer = pty.openpty()
    with start(STANDING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer) as process:
        os.close(writer)
        assert process.stdin and process.stdout
        dropped = int(process.stdout.readline())
        assert dropped > 5_000
        text = b""
        while b"log lines dropped" not in text:
            text += os.read(reader, 65536)
        process.stdin.close()
        while process.poll() is None:
            os.set_blocking(reader, False)
            with suppress(BlockingIOError, OSError):
                text += os.read(reader, 65536)
    os.close(reader)
    told = [json.loads(line) for line in text.splitlines() if b"log lines dropped" in line]
    assert sum(line["lines"] for line in told) == dropped


def test_the_lines_of_processes_that_share_a_pipe_stay_whole() -> None:
    reader, writer = os.pipe()
    many = """
import asyncio
async def say():
    for turn in range(200):
        for n in range(30):
            log.info('x' * 200)
        await asyncio.sleep(0)
asyncio.run(say())
"""
    with start(many, stderr=writer) as one, start(many, stderr=writer) as other:
        os.close(writer)
        with open(reader, "rb") as text:
            messages = [json.loads(line)["message"] for line in text]
    assert (one.returncode, other.returncode) == (0, 0)
    assert {len(message) for message in messages if message.startswith("x")} == {200}


def test_the_process_ends_though_nobody_reads_its_log() -> None:
    reader, writer = os.pipe()
    began = time.monotonic()
    run("for n in range(20_000): log.info('x')\nraise SystemExit('why')", stderr=writer)
    assert time.monotonic() - began < 10
    os.close(reader)
    os.close(writer)


FORKED = f"""
import multiprocessing, sys
def work():
    {_CONFIGURE}
    for n in range(int(sys.argv[1])):
        structlog.get_logger('x').info('line', n=n)
child = multiprocessing.get_context('fork').Process(target=work)
child.start(); child.join()
print(child.exitcode)
"""


@pytest.mark.parametrize("read", [True, False])
def test_a_child_process_writes_its_last_lines_but_waits_for_no_reader(read: bool) -> None:
    """As the worker is that TaskIQ forks: not every Python runs atexit functions in such a one."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", FORKED, "3000" if read else "20000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as log:
            lines = log.read().splitlines() if read else []
            out, _ = process.communicate(timeout=30)
    assert out == b"0\n"
    assert [json.loads(line)["n"] for line in lines] == list(range(3000 if read else 0))


def test_the_banner_waits_for_nobody_and_a_full_disk_does_not_stop_the_start() -> None:
    reader, writer = os.pipe()
    say = "from app.output import say\nsay('x' * 300_000)\nlog.info('alive')"
    done = run(say, stdout=writer, stderr=subprocess.PIPE)
    os.close(reader)
    os.close(writer)
    assert b"alive" in done.stderr
    with open("/dev/full", "wb") as full:
        done = run(say, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0 and b"alive" in done.stderr and b"Traceback" not in done.stderr


def test_a_process_without_stderr_logs_to_nobody() -> None:
    script = "import os; os.open('/dev/null', os.O_RDONLY)\nlog.info('x')\nprint('alive')"
    done = run(script, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert done.stdout == b"alive\n"
