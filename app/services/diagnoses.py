"""What can be wrong with a service that runs, and the cure: lines of `python -m app doctor`, and
the texts of the alerts in deploy/prometheus."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from app.metrics import Found
from app.queues import Queue


class Diagnosis(NamedTuple):
    """`name` is that of the alert. `is_wrong` judges a value of `figure`: a metric, or the part of
    the disk that is free. `text` is one line that ends with the cure; `{label}` and `{value}` in it
    stand for what was found. The value is shown by `unit`, a function of Prometheus' templates."""

    name: str
    figure: str
    is_wrong: Callable[[float], bool]
    text: str
    unit: str = ""

    def line(self, label: str, value: float) -> str:
        return self.text.format(label=label, value=_SHOWN[self.unit](value))

    def alert(self, label: str) -> str:
        """The text for Prometheus. `label` is the name of the metric's label."""
        pipe = f" | {self.unit}" if self.unit else ""
        return self.text.format(label=f"{{{{ $labels.{label} }}}}", value=f"{{{{ $value{pipe} }}}}")


_SHOWN: Mapping[str, Callable[[float], str]] = {
    "": lambda value: f"{value:g}",
    "humanizeDuration": lambda value: f"{value // 60:.0f}m {value % 60:.0f}s",
    "humanizePercentage": lambda value: f"{value:.0%}",
}

DIAGNOSES = (
    Diagnosis(
        "QueueGrows",
        "queue_messages",
        lambda messages: messages > 1000,
        "{value} messages wait in {label}: start another worker, or ask their sender to slow down",
    ),
    Diagnosis(
        "NobodyConsumes",
        "queue_consumers",
        lambda consumers: consumers == 0,
        "nobody consumes {label}: start the worker (the taskiq worker for taskiq); if it runs, its "
        "log says why not",
    ),
    Diagnosis(
        "DeadLetters",
        "dead_letters",
        lambda letters: letters > 0,
        "{label} has dead letters, {value} in all: see why with `python -m app dead list {label}`, "
        "then retry or drop them",
    ),
    Diagnosis(
        "OutboxStuck",
        "outbox_oldest_seconds",
        lambda seconds: seconds > 120,
        "a message has waited {value} in the outbox: start RabbitMQ and a worker or taskiq worker, "
        "or give RabbitMQ room",
        unit="humanizeDuration",
    ),
    Diagnosis(
        "NightNotBuilt",
        "report_days_not_built",
        lambda days: days > 0,
        "report days are not built, {value} in all: start the taskiq worker; if it runs, its log "
        "says why; `python -m app report build` builds them now",
    ),
    Diagnosis(
        "DiskFull",
        "disk_free_ratio",
        lambda ratio: ratio < 0.1,
        "{value} of the disk is free: make room, or give it a larger one; at none, writes are "
        "refused",
        unit="humanizePercentage",
    ),
)

# The text of the alert PartNotWell.
_NOT_WELL = "{part} is not well: {why}; start that server, or give it room"


def not_well(part: str, reason: str | None = None) -> str:
    return _NOT_WELL.format(
        part=part, why=reason or 'the log of the scheduler says why ("not well")'
    )


def diagnosed(figures: Found) -> Iterator[str]:
    """A line for each value that is wrong. What was not found out is not judged, nor is the queue
    `report`, which belongs to whoever takes the reports."""
    sizes = figures.get("disk_size_bytes", {})
    free = {label: figures["disk_free_bytes"][label] / size for label, size in sizes.items()}
    figures = {**figures, "disk_free_ratio": free}
    for diagnosis in DIAGNOSES:
        for label, value in sorted(figures.get(diagnosis.figure, {}).items()):
            if diagnosis.is_wrong(value) and label != Queue.REPORT:
                yield diagnosis.line(label, value)
