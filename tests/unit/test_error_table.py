"""Every refusal of the shop has a status code."""

from app.errors import Refusal
from app.rest.errors import STATUSES


def test_every_refusal_is_in_the_table_of_statuses() -> None:
    assert set(STATUSES) == set(Refusal.__subclasses__())
