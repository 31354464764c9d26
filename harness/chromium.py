"""Pages in a headless Chromium that reaches nothing but this machine."""

import shutil
import subprocess
from pathlib import Path

MISSING = "Chromium is missing: run `apt-get install -y chromium`"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--virtual-time-budget=15000",
    "--enable-logging=stderr",
)


def rendered(
    directory: Path, url: str, size: str = "1280,2400", dark: bool = False
) -> tuple[str, str]:
    """The DOM, and what Chromium logged: the lines with CONSOLE are the page's. The directory gets
    Chromium's profile and `page.png`, which shows the page."""
    program = shutil.which("chromium")
    assert program, MISSING
    looks = (f"--window-size={size}", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    profile = f"--user-data-dir={directory / 'profile'}"
    picture = f"--screenshot={directory / 'page.png'}"
    run = subprocess.run(
        [program, *_FLAGS, *looks, profile, picture, "--dump-dom", url],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return run.stdout, run.stderr
