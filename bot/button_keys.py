"""What the buttons of our bots are signed with: a key of their own in DATA/bots, which `thumbwise keys rotate` changes.

Apart from the platform's token, so that buttons outlive a token that was reset. The present token is known beside it:
that is what buttons were signed with before there was a key, and whoever has the token has the bot anyway.
"""

import math
from pathlib import Path

from feedback_store.key_ring import load_or_create_ring
from thumbwise.rating.buttons import ButtonSecrets

FILE = "buttons.key"


def button_secrets(folder: Path, token: str) -> ButtonSecrets:
    """Return the secrets of the bots whose files are in `folder`. Raises StoreError for a key file that is broken."""
    ring = load_or_create_ring(folder / FILE)
    former = tuple((one.key, math.inf if one.until is None else one.until.timestamp()) for one in ring.former)
    return ButtonSecrets(ring.newest, (*former, (token, math.inf)))
