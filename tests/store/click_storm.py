"""Run by test_kill.py as a program: votes without end, and writes a line for each acknowledged vote.

python click_storm.py URL FIRST_KEY
"""

import asyncio
import sys
from itertools import count

from feedback_store import feedback
from feedback_store.records import NewFeedback
from feedback_store.store import Store

CLICKERS = 16


async def storm(store: Store, first: int) -> None:
    keys = count(first)

    async def click() -> None:
        for key in keys:
            vote = NewFeedback("thumb", "anna", "web", reply_id="one", thumb="up", idempotency_key=str(key))
            ack = await store.write_async(feedback.add_feedback, vote)
            sys.stdout.write(f"{key} {ack.feedback_id}\n")
            sys.stdout.flush()

    await asyncio.gather(*(click() for _ in range(CLICKERS)))


if __name__ == "__main__":
    asyncio.run(storm(Store.open(sys.argv[1]), int(sys.argv[2])))
