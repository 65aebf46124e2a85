"""The forward of our own against transformers: in torch operators, and through the C++ kernels where there are any."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks._adapters_made import sealed_policy
from feedback_store.records import Sampling
from serving.engine import PolicyRef, ReplyDelta, ReplyEnd, ReplyRequest
from serving.engine.base_model import load_model
from serving.engine.batch import GenerationBatch, new_row
from serving.engine.forward import Piece, RowForward, agree, open_rows
from serving.engine.native_build import load_kernels
from serving.engine.packed_forward import PackedForward
from serving.engine.packed_model import PackedModel
from serving.engine.weights import BaseWeights
from serving.settings import PolicySettings
from tests.serving.shapes_made import OTHERS, SHAPES, build_shape

BASE = PolicyRef(1)
QUESTIONS = (
    "sing",
    "tell me a story about a bird and a boat, and then another one about the rain on the roof",
    "what is rain?",
    "write it again, and then once more, slowly please",
    "a",
    "thank you, I would like that very much",
)
TOKENS = 20

needs_kernels = pytest.mark.skipif(load_kernels() is None, reason="no C++ compiler on this machine")
WAYS = ["torch", pytest.param("auto", marks=needs_kernels)]


@pytest.fixture(scope="module")
def shape_dirs(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> dict[str, Path]:
    work = tmp_path_factory.mktemp("shapes")
    return {name: build_shape(name, work / name, tiny_model_dir) for name in (*SHAPES, *OTHERS)}


def opened(directory: Path, kernels: str, dtype: str = "float32") -> BaseWeights:
    return BaseWeights(directory, PolicySettings.model_validate({"dtype": dtype, "device": "cpu", "kernels": kernels}))


def request_of(base: BaseWeights, question: str, **sampling: Any) -> ReplyRequest:
    prompt = base.renderer.render(({"role": "user", "content": question},))[1]
    return ReplyRequest(prompt, replace(Sampling(temperature=0, max_tokens=TOKENS), **sampling))


def reference(base: BaseWeights, prompt: Sequence[int]) -> tuple[tuple[int, ...], float]:
    """Greedy tokens of transformers' own generation in float32, and the sum of their log-probabilities."""
    model = load_model(base.directory, torch.float32)
    ids = torch.tensor([list(prompt)])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=TOKENS,
        eos_token_id=sorted(base.end_ids),
        pad_token_id=2,
    )
    with torch.no_grad():
        logprobs = torch.log_softmax(model(out).logits[0, len(prompt) - 1 : -1].float(), -1)
    replied = out[0, len(prompt) :]
    return tuple(replied.tolist()), float(logprobs.gather(1, replied[:, None]).sum())


class Counting:
    """A forward that counts the tokens it is asked to run."""

    def __init__(self, inner: RowForward) -> None:
        self.inner, self.steps = inner, list[list[Piece]]()

    def run(self, pieces: Sequence[Piece]) -> torch.Tensor:
        self.steps.append(list(pieces))
        return self.inner.run(pieces)

    def copy_row(self, source: int, target: int, length: int) -> None:
        self.inner.copy_row(source, target, length)

    @property
    def tokens(self) -> int:
        return sum(len(piece.token_ids) for pieces in self.steps for piece in pieces)


class Talk:
    """A batch with its counting forward; replies are drawn to their ends."""

    def __init__(
        self, base: BaseWeights, policy: PolicyRef = BASE, *, rows: int = 3, prefill_tokens: int | None = None
    ) -> None:
        self.base = base
        self.batch = GenerationBatch(
            base.build(policy),
            policy,
            end_ids=base.end_ids,
            rows=rows,
            max_positions=base.max_positions,
            device=base.device,
            prefill_tokens=prefill_tokens,
        )
        self.forward = self.batch._forward = Counting(self.batch._forward)

    def draw(self, requests: Sequence[ReplyRequest]) -> list[ReplyEnd]:
        ends: dict[int, ReplyEnd] = {}

        def sink_of(place: int):
            def sink(item: ReplyDelta | ReplyEnd) -> None:
                if isinstance(item, ReplyEnd):
                    ends[place] = item

            return sink

        waiting = [
            new_row(request, sink_of(place), self.base.tokenizer.decode) for place, request in enumerate(requests)
        ]
        while waiting or self.batch.rows:
            joining = self.batch.joinable(waiting)
            self.batch.join(waiting[:joining])
            del waiting[:joining]
            self.batch.step()
        return [ends[place] for place in range(len(requests))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
def test_greedy_replies_are_token_equal_to_transformers_over_joining_and_leaving_rows(
    shape_dirs: dict[str, Path], name: str, way: str
) -> None:
    base = opened(shape_dirs[name], way)
    talk = Talk(base, rows=3, prefill_tokens=7)
    assert isinstance(talk.forward.inner, PackedForward)
    assert (talk.forward.inner._native is not None) == (way == "auto")
    requests = [request_of(base, question) for question in QUESTIONS]
    for request, end in zip(requests, talk.draw(requests), strict=True):
        token_ids, logprob = reference(base, request.prompt_ids)
        assert end.token_ids == token_ids
        assert end.logprob_nats == pytest.approx(logprob, abs=2e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_a_shape_that_only_looks_alike_is_run_by_transformers_with_the_same_tokens(
    shape_dirs: dict[str, Path], name: str
) -> None:
    base = opened(shape_dirs[name], "auto")
    talk = Talk(base, rows=3, prefill_tokens=7)
    assert not isinstance(talk.forward.inner, PackedForward)
    requests = [request_of(base, question) for question in QUESTIONS[:4]]
    for request, end in zip(requests, talk.draw(requests), strict=True):
        token_ids, logprob = reference(base, request.prompt_ids)
        assert end.token_ids == token_ids
        assert end.logprob_nats == pytest.approx(logprob, abs=2e-3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
def test_an_adapter_merged_into_the_packed_weights_gives_the_adapted_model(
    shape_dirs: dict[str, Path], tmp_path: Path, name: str, way: str
) -> None:
    from peft import PeftModel

    base = opened(shape_dirs[name], way)
    base.build(BASE)  # what the adapter does not touch is shared from here
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=2)
    assert policy.adapter_dir is not None
    prompt = base.renderer.render(({"role": "user", "content": "sing"},))[1]
    wanted_model = PeftModel.from_pretrained(load_model(base.directory, torch.float32), policy.adapter_dir)
    with torch.no_grad():
        wanted = wanted_model(torch.tensor([prompt])).logits[0, -1]
        plain = load_model(base.directory, torch.float32)(torch.tensor([prompt])).logits[0, -1]
    found = open_rows(base.build(policy), 1, 128, base.device).run([Piece(0, 0, prompt)])[0]
    assert torch.allclose(found, wanted, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found, plain, atol=0.05)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_in_bfloat16_log_probabilities_stay_within_transformers_own_rounding(
    shape_dirs: dict[str, Path], name: str, way: str
) -> None:
    base = opened(shape_dirs[name], way, "bfloat16")
    if not base._packs:
        pytest.skip("this processor has no packed bfloat16 products")
    prompts = [request_of(base, question).prompt_ids for question in QUESTIONS]
    exact, rounded = load_model(base.directory, torch.float32), load_model(base.directory, torch.bfloat16)
    forward = open_rows(base.build(BASE), len(prompts), 256, base.device)
    forward.run([Piece(row, 0, prompt[:-1], wants_logits=False) for row, prompt in enumerate(prompts)])
    ours = forward.run([Piece(row, len(prompt) - 1, prompt[-1:]) for row, prompt in enumerate(prompts)])

    def error(logits: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((torch.log_softmax(logits.float(), -1) - torch.log_softmax(wanted, -1)).abs().mean())

    with torch.no_grad():
        wanted = torch.stack([exact(torch.tensor([prompt])).logits[0, -1] for prompt in prompts])
        theirs = torch.stack([rounded(torch.tensor([prompt])).logits[0, -1] for prompt in prompts])
    assert 0 < error(ours, wanted) <= 1.1 * error(theirs, wanted)


@pytest.mark.parametrize("way", WAYS)
def test_a_long_chunk_beside_a_long_history_leaves_the_fast_path_and_changes_nothing(
    shape_dirs: dict[str, Path], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = opened(shape_dirs["qwen2"], way)
    prompt = [3 + place * 7 % 300 for place in range(300)]
    wanted = open_rows(load_model(base.directory, torch.float32), 1, 512, base.device).run([Piece(0, 0, prompt)])
    for pairs in (0, 65_536):
        monkeypatch.setattr("serving.engine.packed_forward._NATIVE_CHUNK_PAIRS", pairs)
        forward = open_rows(base.build(BASE), 3, 512, base.device)
        forward.run([Piece(2, 0, prompt[:200], wants_logits=False), Piece(0, 0, prompt[:4], wants_logits=False)])
        found = forward.run([Piece(0, 4, prompt[4:5]), Piece(2, 200, prompt[200:])])
        assert torch.allclose(found[1:], wanted, atol=1e-3, rtol=1e-3)


def test_a_prompt_is_read_in_chunks_while_a_reply_goes_on_without_missing_a_step(tiny_model_dir: Path) -> None:
    base = opened(tiny_model_dir, "auto")
    talk = Talk(base, rows=2, prefill_tokens=8)
    long = ReplyRequest(tuple(3 + place % 300 for place in range(100)), Sampling(temperature=0, max_tokens=2))
    chatty = request_of(base, "sing", temperature=1.0, seed=1, max_tokens=40)
    rows = [new_row(request, lambda item: None, base.tokenizer.decode) for request in (chatty, long)]
    talk.batch.join(rows[:1])
    while not rows[0].token_ids:
        talk.batch.step()
    talk.batch.join(rows[1:])
    while not rows[1].token_ids:
        drawn = len(rows[0].token_ids)
        talk.batch.step()
        assert len(rows[0].token_ids) == drawn + 1
        assert sum(len(piece.token_ids) for piece in talk.forward.steps[-1]) <= 8 + 1


def test_the_next_turn_of_a_conversation_reads_only_what_is_new(tiny_model_dir: Path) -> None:
    base = opened(tiny_model_dir, "auto")
    talk = Talk(base, rows=2)
    first = request_of(base, "tell me a story about a bird")
    (said,) = talk.draw([first])
    others = talk.draw([request_of(base, "what is rain?")])  # another conversation takes the other row
    assert others[0].token_ids
    follow_up = (*first.prompt_ids, *said.token_ids, *request_of(base, "and then?").prompt_ids)
    before = talk.forward.tokens
    (found,) = talk.draw([ReplyRequest(follow_up, Sampling(temperature=0, max_tokens=TOKENS))])
    new = len(follow_up) - len(first.prompt_ids) - len(said.token_ids)
    assert talk.forward.tokens - before <= new + 1 + TOKENS
    assert found.token_ids == reference(base, follow_up)[0]


def test_candidates_of_one_prompt_read_it_once_and_say_what_each_says_alone(tiny_model_dir: Path) -> None:
    base = opened(tiny_model_dir, "auto")
    requests = [request_of(base, QUESTIONS[1], temperature=1.0, seed=seed, max_tokens=6 + seed) for seed in range(4)]
    talk = Talk(base, rows=4)
    together = talk.draw(requests)
    prompt_tokens = talk.forward.tokens - sum(len(end.token_ids) - 1 for end in together)
    assert prompt_tokens == len(requests[0].prompt_ids) + 3  # the last token of each for its logits
    alone = [Talk(base, rows=1).draw([request])[0] for request in requests]
    assert [end.token_ids for end in together] == [end.token_ids for end in alone]
    assert len({end.token_ids for end in together}) > 1


def test_a_prefix_is_never_reused_under_other_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    base = opened(tiny_model_dir, "auto")
    policy = sealed_policy(tmp_path, base.directory, version=2, seed=2)
    requests = [request_of(base, question) for question in QUESTIONS[:3]]
    before, after = Talk(base), Talk(base, policy)
    first = before.draw(requests)
    fresh = Talk(base, policy).draw(requests)
    assert [end.token_ids for end in after.draw(requests)] == [end.token_ids for end in fresh]
    assert [end.token_ids for end in before.draw(requests)] == [end.token_ids for end in first]
    assert [end.token_ids for end in first] != [end.token_ids for end in fresh]


def test_a_step_that_fails_forgets_the_cache(tiny_model_dir: Path) -> None:
    base = opened(tiny_model_dir, "auto")
    talk = Talk(base)
    request = request_of(base, "sing")
    (wanted,) = talk.draw([request])
    sent: list[ReplyDelta | ReplyEnd] = []
    talk.batch.join([new_row(request, sent.append, base.tokenizer.decode)])
    talk.batch.abandon()
    assert [item.finish_reason for item in sent if isinstance(item, ReplyEnd)] == ["cancelled"]
    before = talk.forward.tokens
    assert talk.draw([request])[0].token_ids == wanted.token_ids
    assert talk.forward.tokens - before == len(request.prompt_ids) + len(wanted.token_ids) - 1


@needs_kernels
def test_kernels_that_are_wrong_are_found_out_at_the_start_and_not_used(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = opened(tiny_model_dir, "auto")
    broken = PackedForward.run

    def shifted(self: PackedForward, pieces: Sequence[Piece]) -> torch.Tensor:
        return broken(self, pieces).roll(1, -1)

    with monkeypatch.context() as patched:
        patched.setattr(PackedForward, "run", shifted)
        model = base.build(BASE)
    assert isinstance(model, PackedModel)
    assert model.kernels is None
    assert "disagree" in caplog.text
    prompt = request_of(base, "sing").prompt_ids
    assert agree(model, load_model(base.directory, torch.float32), prompt, torch.float32)


def test_without_a_compiler_the_engine_decodes_through_torch(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    load_kernels.cache_clear()
    try:
        base = opened(tiny_model_dir, "auto")
    finally:
        load_kernels.cache_clear()
    talk = Talk(base)
    assert isinstance(talk.forward.inner, PackedForward)
    assert talk.forward.inner._native is None
    request = request_of(base, "sing")
    assert talk.draw([request])[0].token_ids == reference(base, request.prompt_ids)[0]


def test_generations_share_every_matrix_that_no_adapter_touches(shape_dirs: dict[str, Path]) -> None:
    base = opened(shape_dirs["llama"], "auto")
    first, second = base.build(BASE), base.build(PolicyRef(5))
    assert isinstance(first, PackedModel)
    assert isinstance(second, PackedModel)
    assert all(
        getattr(one, name) is getattr(other, name)
        for one, other in zip(first.layers, second.layers, strict=True)
        for name in ("qkv", "output", "gate_up", "down")
    )
    assert first.head is second.head
