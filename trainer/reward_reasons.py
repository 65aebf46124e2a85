"""Which dimensions of a reward a reason speaks of.

People tap reasons (the chips of the web chat, of the bots and of the Annotate page) and write notes. What was tapped is
a word of ours, the same in every language, and each speaks of a side of a reply that many would call helpful, harmless
or concise:

    helpful    correct, clear, complete, on_topic · wrong, unclear, hard_to_read, missed_the_point, off_topic
    harmless   safe, kind, good_tone · harmful, unsafe
    concise    brief, right_length · too_long, too_short

Where `reward.dimensions` has such a name, a verdict with that reason teaches it; a dimension's own name as a reason
always does, and `reward.reasons` adds to the table. A verdict without any, or with reasons that no dimension knows,
teaches the first.
"""

from collections.abc import Sequence

from trainer.wrong_tool import codes_of

SPEAKS_OF: dict[str, str] = {
    **dict.fromkeys(("correct", "clear", "complete", "on_topic"), "helpful"),
    **dict.fromkeys(("wrong", "unclear", "hard_to_read", "missed_the_point", "off_topic"), "helpful"),
    **dict.fromkeys(("safe", "kind", "good_tone", "harmful", "unsafe"), "harmless"),
    **dict.fromkeys(("brief", "right_length", "too_long", "too_short"), "concise"),
}


def dimensions_of(reason: str | None, names: Sequence[str], more: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the places in `names` that a reason speaks of, in order; (0,) where it speaks of none.

    more: further "reason=dimension" texts, which come before the table.
    """
    codes = codes_of(reason)
    first_word = (reason or "").replace(":", " ").replace(",", " ").replace(";", " ").split()[:1]
    codes |= {word.lower() for word in first_word if word.lower() in names}
    added = dict(pair.split("=", 1) for pair in more)
    named = {added.get(code, code if code in names else SPEAKS_OF.get(code, "")) for code in codes}
    return tuple(place for place, name in enumerate(names) if name in named) or (0,)
