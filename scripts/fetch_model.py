"""Fetch the bundled model into a models directory, once: `python scripts/fetch_model.py DIR`.

Set-up does this so that neither the first start of the server nor the end-to-end test has to wait for the network.
"""

import os
import sys
import time
from pathlib import Path

from serving.engine.bundled_model import ModelFetchError, ensure_bundled_model


def main() -> int:
    """Return 0 when the model is there, 1 (with the reason on stderr) when it cannot be had."""
    if len(sys.argv) != 2:
        print("usage: python scripts/fetch_model.py MODELS_DIR", file=sys.stderr)
        return 2
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a progress bar in a log file is a page of noise
    began = time.monotonic()
    try:
        model = ensure_bundled_model(Path(sys.argv[1]), lambda step: print(f"model: {step}", flush=True))
    except ModelFetchError as error:
        print(f"model: {error}", file=sys.stderr)
        return 1
    print(f"model: {model.name} stands in {model.parent} ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
