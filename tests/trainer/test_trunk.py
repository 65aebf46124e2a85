"""Packed sequences and kept lower layers compute what transformers computes over padded rows."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from serving.engine.base_model import load_model
from tests.serving.shapes_made import OTHERS, SHAPES, build_shape
from tests.trainer.parts import PEFT_NOISE
from trainer import head, trunk
from trainer.encoding import Encoded
from trainer.methods.plain_text import plain_text_divergence
from trainer.packing import Ids, Packed, pack, tree_attention
from trainer.scoring import token_logprobs

pytestmark = [pytest.mark.filterwarnings(noise) for noise in PEFT_NOISE]

PROMPT = (1, 40, 41, 42, 43, 44, 45)
ROWS: list[Ids] = [
    (*PROMPT, 60, 61, 62, 2),
    (*PROMPT, 60, 70, 2),  # shares a word more than the prompt
    (*PROMPT[:5], 80, 81, 82, 83, 84, 85, 86, 2),
    (9, 10, 11, 2),
    (*PROMPT, 60, 61, 62, 2),  # a reply that was given twice
]


def plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """Of one sequence alone: [heads, its tokens, d]."""
    groups = query.shape[1] // key.shape[1]
    every = (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
    q, k, v = (part[0, :, path] for part in every)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def random_heads(packed: Packed, heads: int) -> torch.Tensor:
    return torch.randn(1, heads, packed.ids.shape[1], 8, dtype=torch.float64, requires_grad=True)


def test_a_beginning_that_rows_share_is_laid_out_once() -> None:
    packed = pack(ROWS)
    assert packed.ids.shape[1] == 11 + 2 + 8 + 4 + 0
    for row, path in zip(ROWS, packed.paths, strict=True):
        assert tuple(packed.ids[0, path].tolist()) == row
        assert packed.positions[0, path].tolist() == list(range(len(row)))


def test_a_row_without_tokens_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        pack([(1, 2), ()])


def test_attention_over_the_tree_equals_attention_over_each_sequence_alone() -> None:
    torch.manual_seed(0)
    packed = pack(ROWS)
    query, key, value = random_heads(packed, 6), random_heads(packed, 2), random_heads(packed, 2)
    found, _ = tree_attention(None, query, key, value, None, scaling=8**-0.5, packed=packed)
    weights = [torch.randn(6, len(path), 8, dtype=torch.float64) for path in packed.paths]
    ours = [found[0, path].transpose(0, 1) for path in packed.paths]
    plain = [plain_attention(query, key, value, path) for path in packed.paths]
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    inputs = [query, key, value]
    total, wanted_total = (
        torch.stack([(w * o).sum() for w, o in zip(weights, outs, strict=True)]).sum() for outs in (ours, plain)
    )
    gradients, wanted = torch.autograd.grad(total, inputs), torch.autograd.grad(wanted_total, inputs)
    for mine, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def adapted(directory: Path, layers: list[int] | None = None, name: str = "default") -> Any:
    """A model with a LoRA adapter that has something to say, on its upper layers."""
    base = load_model(directory, torch.float32)
    every = base.config.num_hidden_layers
    lora = LoraConfig(
        r=4,
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
        layers_to_transform=layers or list(range(every // 2, every)),
    )
    torch.manual_seed(5)
    model = get_peft_model(base, lora, adapter_name=name)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "lora_B" in path:
                parameter.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def shape_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def directory(name: str) -> Path:
        if name not in made:
            made[name] = build_shape(name, tmp_path_factory.mktemp("shapes") / name, tiny_model_dir)
        return made[name]

    return directory


def padded(rows: list[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    return ids, mask


@pytest.mark.parametrize("name", [*SHAPES, *OTHERS])
def test_states_and_gradients_are_those_of_the_models_own_forward(name: str, shape_dir: Any) -> None:
    model = adapted(shape_dir(name))
    ids, mask = padded(ROWS)
    assert trunk.fits(model, ids.shape[1]) == (name in {*SHAPES, "llama-gelu"})
    chosen = mask.bool() & (torch.arange(ids.shape[1]) > 2)
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    plain = model.get_base_model().base_model(**inputs).last_hidden_state[chosen]
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    trained = {path: parameter for path, parameter in model.named_parameters() if parameter.requires_grad}
    wanted = torch.autograd.grad((weights * plain).sum(), list(trained.values()))
    for _ in range(2):  # the second time from what was kept
        found = head.states_at(model, chosen, **inputs)
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
        gradients = torch.autograd.grad((weights * found).sum(), list(trained.values()))
        for path, mine, other in zip(trained, gradients, wanted, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()), msg=path)


class Count:
    """How many tokens went through a layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.tokens = 0
        layer.register_forward_pre_hook(self._add)

    def _add(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.tokens += inputs[0].shape[1]


@pytest.fixture
def model(tiny_model_dir: Path) -> Any:
    return adapted(tiny_model_dir)


def last(rows: list[Ids]) -> list[torch.Tensor]:
    return [torch.tensor([len(row) - 1]) for row in rows]


def test_layers_below_the_adapters_run_once_for_every_policy_and_pass(model: Any) -> None:
    layers = model.get_base_model().model.layers
    lowest, upper = Count(layers[0]), Count(layers[2])
    own = trunk.trunk_of(model)
    first = own.states(ROWS, last(ROWS))
    with model.disable_adapter(), torch.no_grad():
        base = own.states(ROWS, last(ROWS))
    own.states(ROWS[:2], last(ROWS[:2]))
    distinct = pack(ROWS).ids.shape[1]
    assert lowest.tokens == pack(sorted(set(ROWS))).ids.shape[1] == distinct
    assert upper.tokens == 2 * distinct + pack(ROWS[:2]).ids.shape[1]
    assert not torch.allclose(first, base)


def test_what_does_not_fit_the_budget_is_computed_again_and_is_the_same(model: Any) -> None:
    own = trunk.trunk_of(model)
    kept = own.states(ROWS, last(ROWS))
    own.forget(ROWS)
    own.keep_at_most = 5 * 32 * 4  # a row of four tokens, of width 32 in float32, and no second
    lowest = Count(model.get_base_model().model.layers[0])
    torch.testing.assert_close(own.states(ROWS, last(ROWS)), kept, rtol=0, atol=1e-6)
    once = lowest.tokens
    torch.testing.assert_close(own.states(ROWS, last(ROWS)), kept, rtol=0, atol=1e-6)
    assert lowest.tokens > once


def test_an_adapter_on_lower_layers_is_not_passed_over(tiny_model_dir: Path) -> None:
    model = adapted(tiny_model_dir, layers=[3])
    own = trunk.trunk_of(model)
    own.states(ROWS, last(ROWS))
    model.add_adapter("low", LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["v_proj"], init_lora_weights=False))
    model.set_adapter("low")
    model.eval()
    ids, mask = padded(ROWS)
    chosen = torch.zeros_like(mask, dtype=torch.bool).scatter(1, mask.sum(-1, keepdim=True) - 1, True)
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    plain = model.get_base_model().base_model(**inputs).last_hidden_state[chosen]
    torch.testing.assert_close(own.states(ROWS, last(ROWS)), plain, rtol=0, atol=1e-5)


def test_a_sequence_beyond_the_models_window_is_left_to_the_model(shape_dir: Any) -> None:
    model = adapted(shape_dir("mistral-window"))
    assert trunk.fits(model, 128)
    assert not trunk.fits(model, 129)


def test_a_trunk_goes_with_its_model(tiny_model_dir: Path) -> None:
    model = adapted(tiny_model_dir)
    trunk.trunk_of(model).lower(ROWS)
    before = len(trunk._trunks)
    del model
    gc.collect()
    assert len(trunk._trunks) < before


def test_the_divergence_of_plain_text_and_its_gradient_are_exact(model: Any) -> None:
    row = list(ROWS[0])
    ids = torch.tensor([row])
    with torch.no_grad(), model.disable_adapter():
        base = model(input_ids=ids).logits[0].log_softmax(-1)
    policy = model(input_ids=ids).logits[0].log_softmax(-1)
    plain = torch.nn.functional.kl_div(policy, base, log_target=True, reduction="sum")
    found = plain_text_divergence(model, [row], turn=3)
    assert float(plain.detach()) > 0.1
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    pairs = zip(torch.autograd.grad(found, trained), torch.autograd.grad(plain, trained), strict=True)
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_what_the_head_says_of_a_token_is_what_the_whole_row_of_logits_says(model: Any) -> None:
    ids, mask = padded(ROWS[:3])
    labels = ids.masked_fill((mask == 0) | (torch.arange(ids.shape[1]) < 4), -100)
    scores = head.scores(model, labels=labels, input_ids=ids, attention_mask=mask, use_cache=False)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    scored, all_logprobs = labels[:, 1:] != -100, logits.log_softmax(-1)
    wanted = {
        "log_probs": all_logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1),
        "entropy": -(all_logprobs.exp() * all_logprobs).sum(-1),
        "mean_logits": logits.mean(-1),
    }
    for name, values in wanted.items():
        torch.testing.assert_close(getattr(scores, name), values.masked_fill(~scored, 0.0), rtol=0, atol=1e-5, msg=name)
    assert torch.equal(scores.is_top1, (logits.argmax(-1) == ids[:, 1:]) & scored)


def test_log_probabilities_do_not_depend_on_the_rows_beside(model: Any) -> None:
    """So a reference that is computed ahead, in other batches, says what the training's own pass would."""
    rows = [Encoded(row[:4], row[4:]) for row in ROWS[:3]]
    together = token_logprobs(model, rows)
    for row, found in zip(rows, together, strict=True):
        trunk.trunk_of(model).forget([row.prompt_ids + row.completion_ids])
        torch.testing.assert_close(token_logprobs(model, [row])[0], found, rtol=0, atol=1e-6)


def test_what_is_forgotten_makes_room(model: Any) -> None:
    own = trunk.trunk_of(model)
    own.keep_at_most = len(ROWS[0]) * 32 * 4  # of width 32 in float32
    lowest = Count(model.get_base_model().model.layers[0])
    for rows, computed in ((ROWS[:1], 11), (ROWS[1:2], 21), (ROWS[1:2], 31), (ROWS[:1], 31)):
        own.lower(rows)
        assert lowest.tokens == computed
    own.forget(ROWS[:1])
    for _ in range(2):
        own.lower(ROWS[1:2])
    assert lowest.tokens == 41
