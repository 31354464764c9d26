"""Every refusal of the shop has a status code."""

from app.errors import Refusal
from app.rest.errors import STATUSES


def test_no_refusal_is_forgotten() -> None:
    assert set(STATUSES) == set(Refusal.__subclasses__())
