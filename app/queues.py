"""The queues. Nothing is imported here that the command line could do without."""

from enum import StrEnum


class Queue(StrEnum):
    PRODUCT = "product"
    PRODUCT_UPDATE = "product_update"
    ORDER = "order"
    ORDER_UPDATE = "order_update"
    REPORT = "report"

    @property
    def dead(self) -> str:
        return f"{self.value}.dead"


# The service publishes reports; it consumes all other queues. Each needs a row of HANDLERS in
# app/consumers/handlers.py, and has a queue of dead letters.
CONSUMED = tuple(queue for queue in Queue if queue is not Queue.REPORT)


# TaskIQ's on RabbitMQ. A task is dead when it expires, or is rejected by a program of others.
TASKS, DEAD_TASKS = "taskiq", "taskiq.dead_letter"


# A reply to one of these would become a message of the service's own.
OWN_QUEUES = frozenset({*Queue, *(queue.dead for queue in Queue), TASKS, DEAD_TASKS})
