"""Mixed load and random faults for some minutes; then every promise is checked.

python -m tests.faults.soak --transport streams --minutes 10
python -m tests.faults.soak --transport rabbitmq --minutes 10 --seed 7
"""

import argparse
import logging
import random
import sys

import uvloop

from tests.faults.soak.run import soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", choices=["streams", "rabbitmq"], required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="seed of the faults"
    )
    chosen = parser.parse_args()
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(
            logging.CRITICAL
        )  # they log every failed connection attempt
    summary = uvloop.run(soak(chosen.transport, chosen.minutes * 60, chosen.seed))
    print(summary)
    sys.exit(1 if summary.violations else 0)


if __name__ == "__main__":
    main()
