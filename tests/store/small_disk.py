"""Run by test_small_disk.py as a program, on a file system of 3 MB: `python small_disk.py FOLDER BALLAST_BYTES`.

Votes until the disk is full, looks around, removes the ballast and votes again. Prints what it saw as JSON.
"""

import json
import sys
import time
from pathlib import Path

from feedback_store import feedback, raters, replies, versions
from feedback_store.errors import StoreUnavailable
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from tests.store.conftest import BASE_MODEL, make_reply

MOST_VOTES = 200_000
REASON = "because the second sentence says what the first one only hints at " * 20


def vote(number: int) -> NewFeedback:
    return NewFeedback("thumb", "anna", "web", reply_id="one", thumb="up", reason=REASON, idempotency_key=str(number))


def main(folder: Path, ballast_bytes: int) -> dict[str, object]:
    ballast = folder / "ballast"
    ballast.write_bytes(b"\0" * ballast_bytes)
    with Store.open(f"sqlite:///{folder}/thumbwise.db") as store:
        store.write(versions.bootstrap, BASE_MODEL)
        store.write(raters.ensure_rater, "anna", "web")
        store.write(replies.add_reply, make_reply("one"))
        said, stored = "", 0
        try:
            for _ in range(MOST_VOTES):
                store.write(feedback.add_feedback, vote(stored))
                stored += 1
        except StoreUnavailable as error:
            said = str(error)
        counted = store.read(feedback.counts)["events"]
        red = store.refuses_writes
        ballast.unlink()
        begun = time.monotonic()
        while store.refuses_writes and time.monotonic() - begun < 10:
            time.sleep(0.01)
        back_s = time.monotonic() - begun
        again = store.write(feedback.add_feedback, vote(stored)).duplicate
        known = store.write(feedback.add_feedback, vote(stored - 1)).duplicate
    seen = {"said": said, "stored": stored, "counted": counted, "red": red}
    return seen | {"back_s": back_s, "again": again, "known": known}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
