"""Fixtures that every role's tests may use.

`tiny_model_dir` is the stand-in for a real model wherever only the machinery is tested: a random Llama of ~50,000
weights with SmolLM2's special tokens, chat template and pad == eos: whatever works with it meets the same traps.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported anywhere: tests never speak to a hub, and never spin beside each other on a small machine.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from benchmarks._postgres import postgres_programs
from tests.databases import SERVER, Choice
from tests.kept_secrets import secrets_kept

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Ids 0, 1 and 2: unknown, begin, end (also the padding), as in SmolLM2."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TOKENIZER_TEXT = (
    "the rain fell on the roof and the cat slept by the stove until the kettle began to sing",
    "what is the best way to learn a song? sing it slowly, then sing it again, and then once more",
    "system user assistant: you are a helpful assistant. tell me a short story about a bird and a boat",
    "yes, no, perhaps; thank you, I would like that very much. please write it again in fewer words",
)


@pytest.fixture(scope="session", autouse=True)
def _secrets_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run's last test if a secret, or what somebody said, stands where it does not belong."""
    with secrets_kept(tmp_path_factory.getbasetemp(), lambda: SERVER.files):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=("sqlite", "postgres"), default="sqlite",
        help="what the tests' stores stand on (tests/databases.py); in tests/store most run on both without it",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    Choice.postgres = config.getoption("--database") == "postgres"
    if Choice.postgres and postgres_programs() is None:
        raise pytest.UsageError("--database postgres needs PostgreSQL's programs; scripts/postgres.sh installs them")


def pytest_unconfigure() -> None:
    SERVER.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL: skip what is about SQLite itself, and leave out the half on SQLite of what runs on both.

    What drives a browser comes last: its library keeps an event loop running, beside which no test can run another."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if not Choice.postgres:
        return
    halves = {item for item in items if "sqlite" in [of_item(item, name) for name in ("store", "store_url", "url")]}
    config.hook.pytest_deselected(items=list(halves))
    items[:] = [item for item in items if item not in halves]
    for item in items:
        about = item.get_closest_marker("sqlite")
        if about is not None or any(name.startswith("sqlite_") for name in getattr(item, "fixturenames", ())):
            why = about.args[0] if about is not None and about.args else "it asks for a SQLite file"
            item.add_marker(pytest.mark.skip(reason=f"is about SQLite itself: {why}"))


def of_item(item: pytest.Item, name: str) -> object:
    """What a test was parametrized with under a name, if it was."""
    called = getattr(item, "callspec", None)
    return called.params.get(name) if called is not None else None


@pytest.fixture(autouse=True)
def _databases_end_with_their_test() -> Iterator[None]:
    """A database of a test on PostgreSQL is dropped behind it; those of a module or of the whole run stay."""
    before = SERVER.folders()
    yield
    SERVER.drop_but(before)


@pytest.fixture(autouse=True)
def _log_files_end_with_their_test() -> Iterator[None]:
    """A command that ran within the test's own process leaves its log file on the root logger: it would go on noting
    what every later test says, with none of the filters that belong to them."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler) and handler not in before:
            root.removeHandler(handler)
            handler.close()


def build_tiny_model(directory: Path) -> None:
    """Write a random Llama (4 layers, width 32, vocabulary 320) with tokenizer and chat template as a model directory.

    The byte-level vocabulary encodes any text, and single bytes that are no whole character come out too: a stream's
    decoder has to cope. Weights are wide (std 0.2), so that greedy decoding has clear winners.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TOKENIZER_TEXT,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(fast),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=2048,
                initializer_range=0.2,
                tie_word_embeddings=True,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=2,
            )
        )
    model.save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random chat model's directory, made once a session. Read-only: never write into it."""
    directory = tmp_path_factory.mktemp("models") / "tiny-random-llama"
    directory.mkdir()
    build_tiny_model(directory)
    return directory
