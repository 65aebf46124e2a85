"""Log-probabilities under the live policy, the reference of every method and of the gate: taken from the store where
they can be believed, computed where not."""

from collections.abc import Sequence

from trainer.encoding import Encoded, stored_logprob
from trainer.job import ReplyText
from trainer.policies import Policies
from trainer.scoring import summed_logprobs

_SPOT_CHECKS = 8
_SPOT_CHECK_NATS = 0.5
"""Stored log-probs are taken when they lie this near to recomputed ones on a few rows, on average: a server in
bfloat16 differs by 0.1-0.3 nats a reply, another model or template by tens."""


def reference_logprobs(
    policies: Policies, encoded: Sequence[Encoded], replies: Sequence[ReplyText], live_version: int
) -> tuple[list[float], int]:
    """Return log p_reference(completion | prompt) of every row (nats), and for how many the stored value was taken.

    The reference is the live policy. A reply that it wrote itself was stored with that very number; the others are
    computed here, once. A few stored ones are recomputed first: when they disagree, none is believed.
    """
    stored = [stored_logprob(*pair, live_version) for pair in zip(encoded, replies, strict=True)]
    known = [place for place, value in enumerate(stored) if value is not None]
    with policies.use("live") as model:
        checked = known[:: max(1, len(known) // _SPOT_CHECKS)][:_SPOT_CHECKS]
        recomputed = summed_logprobs(model, [encoded[place] for place in checked])
        differences = [abs(value - (stored[place] or 0.0)) for place, value in zip(checked, recomputed, strict=True)]
        if differences and sum(differences) / len(differences) > _SPOT_CHECK_NATS:
            stored, known = [None] * len(encoded), []
        unknown = [place for place, value in enumerate(stored) if value is None]
        computed = dict(zip(unknown, summed_logprobs(model, [encoded[place] for place in unknown]), strict=True))
    values = [computed[place] if value is None else value for place, value in enumerate(stored)]
    return values, len(known)
