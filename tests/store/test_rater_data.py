"""Erasing a person: nothing of them stays anywhere in the database, and what others did does."""

import pytest
from sqlalchemy import Connection, text

from feedback_store import annotation_labels as labels
from feedback_store import annotation_queues as queues
from feedback_store import (
    audit,
    feedback,
    inbox,
    inbox_search,
    lineage,
    quarantines,
    rater_data,
    review,
    rounds,
    versions,
)
from feedback_store.audit import Act
from feedback_store.inbox_search import InboxFilter
from feedback_store.raters import staff_rater_id
from feedback_store.review import Target
from feedback_store.store import Store
from tests.store.conftest import Scene

WORDS = "wombat"
"""Stands in everything that says something of the person's words."""
ASKED = {"rater_id": "anna", "messages": ({"role": "user", "content": f"a {WORDS}?"},), "text": f"a {WORDS} is round"}


def everything(connection: Connection) -> dict[str, str]:
    """Every row of every table, the index of words too."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if connection.dialect.name == "postgresql":
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    names = [name for name in connection.execute(text(query)).scalars() if not name.startswith("inbox_words_")]
    return {name: str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in names}


def holding(store: Store, needle: str) -> list[str]:
    return sorted(name for name, rows in store.read(everything).items() if needle in rows)


@pytest.fixture
def known(scene: Scene) -> Scene:
    """Anna, of whom the store knows something in every table that can."""
    store = scene.store
    scene.rater("anna", "ben")
    scene.reply("hers", conversation_id=None, **ASKED)
    scene.comparison("pair", ("x", "y"), **ASKED)
    scene.reply("bens", rater_id="ben")
    scene.act("thumb", "anna", reply_id="hers", thumb="down", reason=WORDS)
    theirs = scene.act("correction", "anna", reply_id="bens", correction=f"say {WORDS}").feedback_id
    scene.act("thumb", "ben", reply_id="hers", thumb="up")
    store.write(review.act, "approve", [Target("bens", 0, feedback_id=theirs)], actor="olga", reason=WORDS)
    (flag,) = store.write(review.act, "flag", [Target("hers", 0)], actor="olga", reason=WORDS)
    store.write(review.undo, flag.batch_id, actor="olga", reason=WORDS)
    store.write(review.note, "hers", f"asks for a {WORDS}", actor="olga")
    (item,) = [one for one in store.read(inbox_search.search, InboxFilter()).items if one.reply_id == "hers"]
    store.write(review.correct, Target("hers", item.revision), f"The {WORDS}!", actor="olga", reason=WORDS)
    store.write(queues.ask_for_labels, "uncertain", {"pair": 1.0}, wanted=1, purpose="p", requested_by="trainer")
    given = store.write(labels.next_assignment, "ada")
    assert given is not None
    saved = store.write(labels.save, "ada", given.label.label_id, 0, ranked=("x", "y"), note=f"that {WORDS}")
    store.write(labels.finish, "ada", saved.label_id, saved.revision)
    act = Act("user:olga", "rater.quarantine", "rater anna", WORDS)
    store.write(audit.audited, act, quarantines.begin_by_hand, "anna", reason=WORDS, begun_by="olga")
    store.write(quarantines.begin_by_hand, "anna", reason=WORDS, begun_by="olga", feedback_id=theirs)
    while store.write(inbox.catch_up):
        pass
    return scene


def test_of_an_erased_rater_no_table_keeps_a_word_or_the_name(known: Scene) -> None:
    store = known.store
    tables = ["annotation_labels", "audit", "feedback", "inbox_words", "quarantines", "replies", "review_acts"]
    assert holding(store, WORDS) == tables, "what is erased was there"
    assert {"comparisons", "inbox_raters", "raters"} <= set(holding(store, "'anna'"))
    erased = store.write(rater_data.erase_rater, "anna")
    assert (erased.replies, erased.feedback) == (3, 2)
    assert holding(store, WORDS) == []
    assert holding(store, "anna") == []


def test_what_others_said_to_an_erased_rater_stays(known: Scene) -> None:
    store = known.store
    store.write(rater_data.erase_rater, "anna")
    while store.write(inbox.catch_up):
        pass
    acts = [entry.act for entry in store.read(feedback.recent_feedback, 10)]
    assert {(act.rater_id, act.kind) for act in acts} == {("ben", "thumb"), (staff_rater_id("ada"), "verdict")}
    (entry,) = store.read(audit.entries)
    assert (entry.actor, entry.action, entry.target) == ("user:olga", "rater.quarantine", audit.ERASED_RATER)
    assert {one.reply_id for one in store.read(inbox_search.search, InboxFilter()).items} == {"hers", "x", "y"}


def test_a_version_that_learnt_from_an_erased_rater_is_flagged_with_its_children(known: Scene) -> None:
    store = known.store
    store.write(rounds.request_round, requested_by="test", method="kto", settings={})
    claimed = store.write(rounds.claim_round, owner="test", lease_s=60)
    assert claimed is not None
    store.write(rounds.freeze_selection, claimed.round_id, claimed.fence, [(1, "train"), (3, "train")])
    for parent, round_id in ((1, claimed.round_id), (2, None)):
        store.write(
            versions.add_candidate, base_model="tiny-base", adapter_sha256=str(parent) * 64, parent=parent,
            method="kto", round_id=round_id, gate_report=None, metrics={},
        )  # fmt: skip
    assert store.write(rater_data.erase_rater, "anna").affected_versions == [2, 3]
    assert store.read(lineage.flagged_versions) == dict.fromkeys((2, 3), ("trained on 1 acts that were erased since",))
    assert store.write(rater_data.erase_rater, "anna") == rater_data.Erasure(0, 0, [])
