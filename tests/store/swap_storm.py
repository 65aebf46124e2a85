"""Run by test_kill_swap.py as a program: moves the live pointer without end, and writes a line for each move.

python swap_storm.py URL
"""

import sys

from feedback_store import versions
from feedback_store.store import Store


def storm(store: Store) -> None:
    while True:
        live = store.read(versions.live_version).version
        if live == 1:
            move = store.write(versions.promote, 2, actor="admin", reason="because", expected_live=1)
        else:
            move = store.write(versions.rollback, actor="admin", reason="because", expected_live=live)
        sys.stdout.write(f"{move.deployment_id} {move.version}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    storm(Store.open(sys.argv[1]))
