"""What the doctor says of figures, and that the alerts say the same."""

import pytest

from app.services.diagnoses import DIAGNOSES, Diagnosis, diagnosed
from tests.unit.test_monitoring import alerts


@pytest.mark.parametrize("diagnosis", DIAGNOSES, ids=lambda d: d.name)
def test_the_alert_says_what_the_doctor_says(diagnosis: Diagnosis) -> None:
    [text] = [a["annotations"]["summary"] for a in alerts() if a["alert"] == diagnosis.name]
    assert text == diagnosis.alert("queue")


def test_only_what_is_wrong_is_said_with_its_cure() -> None:
    figures = {
        "queue_messages": {"order": 1001, "product": 1000, "report": 5000},
        "queue_consumers": {"order": 1, "product": 0, "report": 0},
        "dead_letters": {"order": 2, "product": 0},
        "outbox_oldest_seconds": {"": 184},
        "report_days_not_built": {"": 1},
        "disk_free_bytes": {"": 5},
        "disk_size_bytes": {"": 100},
    }
    assert [line.partition(":")[0] for line in diagnosed(figures)] == [
        "1001 messages wait in order",
        "nobody consumes product",
        "order has dead letters, 2 in all",
        "a message has waited 3m 4s in the outbox",
        "report days are not built, 1 in all",
        "5% of the disk is free",
    ]


def test_what_was_not_found_out_is_not_judged() -> None:
    assert not list(diagnosed({}))
