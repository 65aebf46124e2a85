"""Write requirements.lock: every package but torch, pinned with hashes, for Python 3.11 and newer.

torch is installed first and by version alone (`torch==2.13.0`): its wheel differs by machine (CPU, CUDA), so one hash
cannot serve, and its CUDA companions belong to the wheel that pip picks. The rest is installed with --no-deps and
--require-hashes from the file this writes. Run through `make lock`.
"""

import re
import subprocess
import sys
from pathlib import Path

NOT_LOCKED = re.compile(r"^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
ROOT = Path(__file__).parent.parent


def entries(text: str) -> list[str]:
    """Split a compiled requirements text into one entry per package, hashes included."""
    return re.split(r"\n(?=[a-z0-9])", text.strip())


def main() -> None:
    """Compile, leave out torch and its companions, write."""
    compiled = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal",
         "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    kept = [entry for entry in entries(compiled) if not NOT_LOCKED.match(entry)]
    (ROOT / "requirements.lock").write_text("\n".join(kept) + "\n")
    print(f"requirements.lock: {len(kept)} packages")


if __name__ == "__main__":
    main()
