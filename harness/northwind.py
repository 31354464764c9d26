"""The Northwind data, and the expected results that were computed without this service."""

import csv
import os
from pathlib import Path

from app.settings import ROOT

NORTHWIND = Path(os.environ.get("NORTHWIND", ROOT.parent / "shared" / "data" / "northwind"))
MISSING = f"the Northwind data is not at {NORTHWIND}: put it there, or set NORTHWIND to where it is"


def require() -> None:
    assert (NORTHWIND / "orders.jsonl").exists(), MISSING


def truth(name: str) -> list[dict[str, str]]:
    """The rows of one file of expected results."""
    with (NORTHWIND / "truths" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
