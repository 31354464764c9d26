"""What the tests of the pages share."""

import pytest

from harness.npm import Npm

AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe, which judges how accessible a page is."""
    npm = Npm(tmp_path_factory.mktemp("axe"), AXE)
    return (npm.directory / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
