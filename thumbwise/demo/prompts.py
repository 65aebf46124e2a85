"""What the crowd asks: everyday chat questions, one a line, in two sets that share nothing.

`prompts_train.txt` is asked while votes are given; `prompts_fresh.txt` only when versions are measured, so that no
figure of the demo comes from a prompt that a round could have learnt by heart.
"""

from importlib.resources import files


def _lines(name: str) -> tuple[str, ...]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def train_prompts() -> tuple[str, ...]:
    """The prompts of the rounds."""
    return _lines("prompts_train.txt")


def fresh_prompts() -> tuple[str, ...]:
    """The prompts of the measurement: never asked while votes are given."""
    return _lines("prompts_fresh.txt")
