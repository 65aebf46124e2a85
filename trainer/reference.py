"""Log-probabilities under the reference policy, of a method or of the gate: taken from the store where they can be
believed, computed where not."""

from collections.abc import Sequence

from trainer import group
from trainer.encoding import Encoded, stored_logprob
from trainer.job import ReplyText
from trainer.policies import Policies, PolicyName
from trainer.scoring import summed_logprobs

_SPOT_CHECKS = 8
_SPOT_CHECK_NATS = 0.5
"""Stored log-probs are taken when they lie this near to recomputed ones on a few rows, on average: a server in
bfloat16 differs by 0.1-0.3 nats a reply, another model or template by tens."""


def reference_logprobs(
    policies: Policies,
    encoded: Sequence[Encoded],
    replies: Sequence[ReplyText],
    live_version: int,
    reference: PolicyName = "live",
) -> tuple[list[float], int]:
    """Return log p_reference(completion | prompt) of every row (nats), and for how many the stored value was taken.

    A reply that the live policy wrote was stored with that very number; the others are computed here, once, as are all
    of them when the reference is another. A few stored ones are recomputed first: when they disagree, none is believed.
    """
    is_live = reference == "live" or not policies.live_has_adapter
    stored = [stored_logprob(*pair, live_version) if is_live else None for pair in zip(encoded, replies, strict=True)]
    known = [place for place, value in enumerate(stored) if value is not None]
    with policies.use(reference) as model:
        checked = known[:: max(1, len(known) // _SPOT_CHECKS)][:_SPOT_CHECKS]
        recomputed = summed_logprobs(model, [encoded[place] for place in checked])
        differences = [abs(value - (stored[place] or 0.0)) for place, value in zip(checked, recomputed, strict=True)]
        if group.lead_says(bool(differences) and sum(differences) / len(differences) > _SPOT_CHECK_NATS):
            stored, known = [None] * len(encoded), []
        unknown = [place for place, value in enumerate(stored) if value is None]
        found = group.gathered_rows(lambda rows: summed_logprobs(model, rows), [encoded[place] for place in unknown])
        computed = dict(zip(unknown, found, strict=True))
    values = [computed[place] if value is None else value for place, value in enumerate(stored)]
    return values, len(known)
