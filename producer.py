"""Send five sample products and three sample orders to the queues, or load your own data.

The messages of your own data get their ids from sku and external_id, and the service applies a
message id once. So an interrupted load continues when the same command is run again.
"""

import argparse
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="load DIR/users.jsonl, addresses.jsonl, products.jsonl and orders.jsonl",
    )
    parser.add_argument(
        "--products", type=Path, metavar="FILE", help="in place of DIR/products.jsonl"
    )
    parser.add_argument("--orders", type=Path, metavar="FILE", help="in place of DIR/orders.jsonl")
    chosen = parser.parse_args()
    if chosen.data is None and (chosen.products or chosen.orders):
        parser.error("--products and --orders need --data")
    return chosen


def main() -> None:
    chosen = _arguments()
    # Only now: the help, or an error in the arguments, need not wait for the libraries.
    # pylint: disable=import-outside-toplevel
    from app.client.produce import produce
    from app.settings import load_settings

    produce(load_settings(), chosen.data, products=chosen.products, orders=chosen.orders)


if __name__ == "__main__":
    main()
