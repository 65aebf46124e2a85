"""How long a second start takes until the first message is answered, with the bundled model already there.

Starts `thumbwise up` as a user does, waits for /readyz, sends one message, and takes the median of several starts. The
peer is the plain way: a Python process that loads the same model with transformers and generates the same answer.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks._product import running_product
from benchmarks.report import Row, report
from serving.engine.bundled_model import ensure_bundled_model

QUESTION = "Name three colours."
TOKENS = 32
PLAIN = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": sys.argv[2]}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
model.generate(**prompt, max_new_tokens=int(sys.argv[3]), do_sample=False)
"""


def ours(models: Path) -> tuple[float, float]:
    """Start a server over an empty data folder; return seconds until it is ready, and until its first answer."""
    began_at = time.perf_counter()
    with running_product(models) as product:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": TOKENS, "temperature": 0}
        httpx.post(f"{product.url}/v1/chat/completions", json=body, timeout=120, trust_env=False).raise_for_status()
        return product.ready_after_s, time.perf_counter() - began_at


def peer(model: Path) -> float:
    """Seconds of a plain transformers process that loads the model and answers once."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", PLAIN, str(model), QUESTION, str(TOKENS)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def main() -> None:
    """Run, print, write benchmarks/results/start.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    models = Path(os.environ.get("THUMBWISE_MODELS_DIR", ".models"))
    model = ensure_bundled_model(models)
    starts = [ours(models) for _ in range(arguments.repeats)]
    plain = [peer(model) for _ in range(arguments.repeats)]
    answered_s = statistics.median(answered for _, answered in starts)
    report(
        "start",
        [
            Row("start until ready", statistics.median(ready for ready, _ in starts), unit="s"),
            Row("start until the first message is answered", answered_s, statistics.median(plain), unit="s"),
        ],
        f"SmolLM2-135M-Instruct, already fetched; {TOKENS} tokens, greedy; store, pages, API and scheduler included. "
        f"Peer: a bare transformers process that loads the model and generates once. Median of {arguments.repeats}.",
    )


if __name__ == "__main__":
    main()
