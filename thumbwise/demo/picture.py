"""The demo as a picture: did people's taste win, and what did it do to the replies?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thumbwise.demo.hidden import words_of
from thumbwise.demo.loop import Story
from thumbwise.demo.measures import FreshReply, Looks
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.results import BASE_VERSION, looks_of_all, versions_in_order

GREY, BLUE, ORANGE = "#8a8f98", "#2f6fde", "#d9822b"


def save_picture(plan: DemoPlan, story: Story, path: Path) -> None:
    """Draw the results into `path` (PNG or whatever its ending says)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    looks = looks_of_all(plan, story)
    last = versions_in_order(story)[-1]
    base, new = story.fresh[BASE_VERSION], story.fresh[last]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    _win_rates(axes[0], looks)
    _words(axes[1], base, new, last)
    _shares(axes[2], looks)
    crowd = "" if plan.crowd.labels == "votes" else f", control: {plan.crowd.labels}"
    poison = f", {plan.crowd.poison_share:.0%} poison raters" if plan.crowd.poison_share else ""
    replies = f"{len(base)} replies to {len({reply.prompt for reply in base})} fresh prompts"
    figure.suptitle(f"{replies}, seed {plan.seed}{crowd}{poison}", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _win_rates(axes: Any, looks: Sequence[Looks]) -> None:
    rated = [(item, item.win_rate) for item in looks if item.win_rate is not None]
    axes.axhline(50, color=GREY, linestyle="--", linewidth=1)
    axes.text(0.02, 51, "base", color=GREY, fontsize=9, transform=axes.get_yaxis_transform())
    for place, (_, rate) in enumerate(rated):
        below, above = rate.value - rate.low, rate.high - rate.value
        axes.errorbar(place, 100 * rate.value, [[100 * below], [100 * above]], fmt="o", color=BLUE, capsize=5)
        axes.annotate(f"{rate.value:.0%}", (place, 100 * rate.value), xytext=(9, 0), textcoords="offset points",
                      va="center")  # fmt: skip
    axes.set(title="Win rate of the crowd's taste", ylabel="% of pairs won against the base, 95 %", ylim=(0, 100))
    axes.set_xticks(range(len(rated)), [f"version {item.version}" for item, _ in rated])
    axes.set_xlim(-0.6, max(0.6, len(rated) - 0.4))


def _words(axes: Any, base: Sequence[FreshReply], new: Sequence[FreshReply], last: int) -> None:
    bins = range(0, 101, 5)
    axes.hist([len(words_of(reply.text)) for reply in base], bins, color=GREY, alpha=0.6, label="base")
    if last != BASE_VERSION:
        axes.hist([len(words_of(reply.text)) for reply in new], bins, color=BLUE, alpha=0.6, label=f"version {last}")
    axes.set(title="Length", xlabel="words a reply", ylabel="replies")
    axes.legend(frameon=False)


def _shares(axes: Any, looks: Sequence[Looks]) -> None:
    names = ["base" if item.version == BASE_VERSION else f"version {item.version}" for item in looks]
    bars = {
        "finished": ([100 * item.finished for item in looks], BLUE),
        "under 3 words": ([100 * item.under_three_words for item in looks], ORANGE),
    }
    width = 0.38
    for place, (label, (values, colour)) in enumerate(bars.items()):
        drawn = axes.bar(
            [x + (place - 0.5) * width for x in range(len(names))], values, width, label=label, color=colour
        )
        axes.bar_label(drawn, fmt="%.0f")
    axes.set(title="Shares", ylabel="% of replies", ylim=(0, 108))
    axes.set_xticks(range(len(names)), names)
    axes.legend(frameon=False)
