"""Who won against whom: the comparisons of replies of different versions, as duels for `bradley_terry`."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from sqlalchemy import Connection, func, select

from feedback_store.bradley_terry import Duel, Standing, standings
from feedback_store.feedback import effective_query, feedback_of_row
from feedback_store.records import BOTH_BAD, TIE, NewFeedback
from feedback_store.schema import feedback, replies
from feedback_store.versions import live_or_none


def duels(connection: Connection) -> list[Duel]:
    """Return what raters hold now of comparisons in which different versions stood. A ranking counts each pair of its
    replies; both bad tells the two as little apart as a tie."""
    mixed = (
        select(replies.c.comparison_id)
        .where(replies.c.comparison_id.is_not(None))
        .group_by(replies.c.comparison_id)
        .having(func.count(replies.c.policy_version.distinct()) > 1)
        .subquery("mixed")
    )
    of_comparison: dict[str, dict[str, int]] = {}
    shown = select(replies.c.comparison_id, replies.c.reply_id, replies.c.policy_version).join(
        mixed, mixed.c.comparison_id == replies.c.comparison_id
    )
    for comparison_id, reply_id, version in connection.execute(shown):
        of_comparison.setdefault(comparison_id, {})[reply_id] = version
    judged = (
        effective_query(on="comparisons")
        .join(mixed, mixed.c.comparison_id == feedback.c.comparison_id)
        .order_by(feedback.c.feedback_id)
    )
    found: list[Duel] = []
    for row in connection.execute(judged).mappings():
        found += _duels_of(feedback_of_row(row).act, of_comparison[row["comparison_id"]])
    return found


def win_rates(connection: Connection) -> list[Standing]:
    """Return how the compared versions stand against the live one, the strongest first."""
    live = live_or_none(connection)
    return standings(duels(connection), live.version if live else 0)


def _duels_of(act: NewFeedback, versions: Mapping[str, int]) -> Iterator[Duel]:
    if act.verdict in (TIE, BOTH_BAD):
        pairs = [(left, right, True) for left, right in combinations(versions, 2)]
    elif act.verdict is not None:
        pairs = [(act.verdict, other, False) for other in versions if other != act.verdict]
    else:
        pairs = [(better, worse, False) for better, worse in combinations(act.ranking or (), 2)]
    for better, worse, tied in pairs:
        if better in versions and worse in versions and versions[better] != versions[worse]:
            yield Duel(act.rater_id, versions[better], versions[worse], tied=tied)
