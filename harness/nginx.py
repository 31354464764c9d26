"""A private nginx: Debian's program, with the configuration of deploy/."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.embedded.ports import LOOPBACK, free_port
from app.settings import ROOT
from harness.processes import Process
from harness.tls import Authority

MISSING = "nginx is missing: run `apt-get install -y nginx-light`, or `tests/run`"
NAME = "localhost"
_MAIN = """\
daemon off;
pid nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include {site};
}}
"""


@asynccontextmanager
async def nginx_before(
    port: int, directory: Path, authority: Authority, **changes: str
) -> AsyncIterator[str]:
    """The URL of the server of deploy/nginx.conf, with our ports, name and certificate."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, MISSING
    listening = free_port()
    certificate, key = authority.files(NAME, directory)
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in {
        "127.0.0.1:8000": f"{LOOPBACK}:{port}",
        "listen 443": f"listen {LOOPBACK}:{listening}",
        "server_name shop.example": f"server_name {NAME}",
        "/etc/ssl/shop.example.pem": str(certificate),
        "/etc/ssl/shop.example.key": str(key),
        **changes,
    }.items():
        assert old in site, old
        site = site.replace(old, new)
    (directory / "site.conf").write_text(site)
    (directory / "nginx.conf").write_text(_MAIN.format(site=directory / "site.conf"))
    process = Process(
        "nginx",
        [program, "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"],
        {},
        directory=directory,
        log=directory / "nginx.log",
    )
    process.start()
    try:
        await process.says("start worker process")
        yield f"https://{NAME}:{listening}"
    finally:
        await process.stop()
