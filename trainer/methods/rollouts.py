"""Replies that a policy under training draws itself, with everything that PPO and GRPO learn from them.

They are drawn by serving's own engine from the sealed form of the present adapter: the very replies that would be
served, at the server's speed. Their log-probabilities are then computed again by the training's own pass, in the very
batches in which they are learnt from, so that the ratio of new to old probability begins at exactly 1 (the engine may
work in another precision; how far both differ is reported).

A reply's tokens end with its first end token. Ending and padding are one token on many models (pad == eos on the
bundled one), so a mask made from token ids loses either the end or keeps the padding; here a reply's length alone says
what belongs to it.
"""

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from feedback_store.records import Sampling
from serving.adapters import seal_adapter
from serving.engine import PolicyRef
from trainer import gate_texts as texts
from trainer import group
from trainer.drawing import Draw, Drawn
from trainer.encoding import Encoded
from trainer.job import Job
from trainer.methods.activations import distinct_tokens
from trainer.methods.forward import batch_of, logprobs, logprobs_and_states, shortest_first
from trainer.methods.parts import NO_BOUND, AtOnce, in_parts
from trainer.methods.reward_model import RewardModel
from trainer.policies import Policies

_SHORT_WORDS = 3


@dataclass(slots=True)
class Rollout:
    """One iteration's replies. Lists hold one item a reply; tensors of a reply hold one number a token."""

    sequences: list[Encoded]
    groups: list[int]
    """Which prompt each answers."""
    texts: list[str]
    finished: list[bool]
    scores: torch.Tensor
    """The reward model's."""
    batches: list[list[int]]
    """Minibatches: places of replies of about equal length."""
    old: list[torch.Tensor]
    """log π(token) as it was drawn, by the training's own pass."""
    reference: list[torch.Tensor]
    states: list[torch.Tensor] = field(default_factory=list)
    """Hidden states of the reference before each token [tokens, width], where a value model reads them."""
    sampler_gap_nats: float = 0.0
    """Mean |log π| difference of a whole reply between the engine and the training's pass."""

    @property
    def kl_nats(self) -> float:
        """Mean divergence of a whole reply from the reference, by the estimator k3 summed over tokens: never
        negative."""
        total = sum(float(k3(old, ref).sum()) for old, ref in zip(self.old, self.reference, strict=True))
        return total / len(self.old)

    def tokens_of(self, places: Sequence[int]) -> int:
        """How many tokens are computed for some of the replies."""
        return distinct_tokens(self.sequences[place] for place in places)

    @property
    def words(self) -> list[int]:
        """How many each reply has."""
        return [len(texts.words(text)) for text in self.texts]

    def looks(self) -> dict[str, float]:
        """What the replies look like: shares and the median length, for the watch over reward hacking."""
        counts = self.words
        repeats = [share for text in self.texts if (share := texts.repeated_share(text)) is not None]
        n = len(self.texts)
        return {
            "words": float(torch.tensor(counts, dtype=torch.float32).median()),
            "short": sum(count < _SHORT_WORDS for count in counts) / n,
            "repeated": sum(repeats) / len(repeats) if repeats else 0.0,
            "finished": sum(self.finished) / n,
        }


def k3(logprobs_T: torch.Tensor, other_T: torch.Tensor) -> torch.Tensor:
    """Return Schulman's estimator k3 of KL(π ‖ other) at tokens drawn from π: exp(d) − 1 − d, d = log other − log π."""
    difference_T = other_T - logprobs_T
    return difference_T.exp() - 1 - difference_T


def until_first_end(ids: Sequence[int], end_ids: frozenset[int]) -> tuple[int, ...]:
    """Return a reply's ids up to and with its first end token; what follows is padding, whatever its id."""
    for place, token in enumerate(ids):
        if token in end_ids:
            return tuple(ids[: place + 1])
    return tuple(ids)


def prompts_of(iteration: int, count: int, available: int, seed: int) -> list[int]:
    """Return the places of an iteration's prompts: a shuffled deck is dealt, all of it before any comes again."""
    start = iteration * count
    found: list[int] = []
    for place in range(start, start + count):
        deck = list(range(available))
        random.Random(f"{seed}:{place // available}").shuffle(deck)
        found.append(deck[place % available])
    return found


@contextmanager
def sealed_candidate(policies: Policies, job: Job, folder: Path) -> Iterator[PolicyRef]:
    """Seal the candidate as it is now into a folder that is removed afterwards (with the round's cache, after a
    kill)."""
    (folder / "cache").mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder / "cache", prefix="rollout-"))
    try:
        sha256 = seal_adapter(
            policies.save_candidate(scratch), scratch / "sealed", base_model=job.base_model, parent=None, round_id=None
        )
        yield PolicyRef(0, sha256, scratch / "sealed" / sha256)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def draw_rollout(
    policies: Policies,
    reward: RewardModel,
    prompts: Sequence[tuple[int, ...]],
    job: Job,
    folder: Path,
    draw: Draw,
    iteration: int,
    *,
    bound: AtOnce = NO_BOUND,
    with_states: bool,
) -> Rollout:
    """Draw iteration number `iteration`: replies of the candidate to some of `prompts` (token ids), scored in the parts
    in which they will be learnt from (`bound`)."""
    settings = job.online
    asked = prompts_of(iteration, settings.prompts, len(prompts), job.seed)
    seed = (job.seed * 1_000_003 + iteration) * settings.prompts * settings.replies
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=settings.reply_tokens, seed=seed % 2**31)
    mine = group.own(range(len(asked)))  # each reply has its own random stream, whoever draws it
    own_sampling = replace(sampling, seed=(sampling.seed or 0) + (mine[0] if mine else 0) * settings.replies)
    with sealed_candidate(policies, job, folder) as policy:
        own = draw(policy, [prompts[asked[turn]] for turn in mine], settings.replies, own_sampling) if mine else []
    drawn = [reply for part in group.gathered(own) for reply in part]
    owners = [turn for turn in range(len(asked)) for _ in range(settings.replies)]
    return score_rollout(
        policies, reward, [prompts[asked[turn]] for turn in owners], owners, drawn, job, bound, with_states
    )


def score_rollout(
    policies: Policies,
    reward: RewardModel,
    prompts: Sequence[tuple[int, ...]],
    groups: Sequence[int],
    drawn: Sequence[Drawn],
    job: Job,
    bound: AtOnce,
    with_states: bool,
) -> Rollout:
    """Give drawn replies their rewards and their log-probabilities under candidate and reference."""
    ends = frozenset({int(policies.tokenizer.eos_token_id)})
    kept = [place for place, reply in enumerate(drawn) if reply.token_ids]
    sequences = [Encoded(prompts[place], until_first_end(drawn[place].token_ids, ends)) for place in kept]
    batches = shortest_first(sequences, job.online.minibatch)
    random.Random(job.seed).shuffle(batches)
    found = Rollout(
        sequences,
        [groups[place] for place in kept],
        [drawn[place].text for place in kept],
        [drawn[place].finish_reason == "stop" for place in kept],
        torch.tensor(group.gathered_rows(lambda rows: reward.rewards(rows).tolist() if rows else [], sequences)),
        batches,
        [torch.empty(0)] * len(kept),
        [torch.empty(0)] * len(kept),
        [torch.empty(0)] * len(kept) if with_states else [],
    )
    policies.model.eval()
    for scored in group.gathered(_score(policies, found, bound, with_states)):
        for place, (old, reference, states) in scored.items():
            found.old[place], found.reference[place] = old, reference
            if with_states:
                found.states[place] = states
    gaps = [abs(float(found.old[at].sum()) - drawn[place].logprob_nats) for at, place in enumerate(kept)]
    found.sampler_gap_nats = sum(gaps) / len(gaps)
    return found


Scored = dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Place of a reply → log π of its tokens, log π_ref, and the reference's hidden states (empty where not wanted)."""


def _score(policies: Policies, rollout: Rollout, bound: AtOnce, with_states: bool) -> Scored:
    """Score this process's share of each minibatch, in the very parts in which it will be learnt from."""
    found: Scored = {}
    parts = (part for minibatch in rollout.batches for part in in_parts(minibatch, bound, rollout.tokens_of))
    for places in parts:
        batch = batch_of([rollout.sequences[place] for place in places], policies.model.device)
        scored_BT = batch.scored[:, 1:]
        with torch.no_grad():
            old_BT = logprobs(policies.model, batch)[0]
        with policies.use(policies.reference) as model:
            reference_BT, states_BTH = logprobs_and_states(model, batch)
        for row, place in enumerate(places):
            own = scored_BT[row]
            states = states_BTH[row][own].detach().cpu() if with_states else torch.empty(0)
            found[place] = (old_BT[row][own].detach().cpu(), reference_BT[row][own].detach().cpu(), states)
    return found
