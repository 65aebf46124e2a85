"""Feedback against a plain model: a dict of what each rater thinks, changed act by act, is what the store says."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from feedback_store import feedback, quarantines
from feedback_store.errors import NotFound, Refused
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from tests.store.conftest import Scene

RATERS = st.sampled_from(["anna", "ben", "cleo"])
REPLIES = st.sampled_from(["one", "two", "x", "y"])
KEYS = st.none() | st.sampled_from(["k1", "k2", "k3"])


class FeedbackMachine(RuleBasedStateMachine):
    """Random acts, repeats, retractions and quarantines; `held` is the model."""

    new_url: Callable[[], str]

    @initialize()
    def open(self) -> None:
        self.url = type(self).new_url()
        self.store = Store.open(self.url)
        scene = Scene(self.store)
        scene.rater("anna", "ben", "cleo")
        scene.reply("one", "two")
        scene.comparison("pair", ("x", "y"))
        self.held: dict[tuple[str, str, str], Any] = {}
        self.receipts: dict[tuple[str, str], int] = {}
        self.quarantined: set[str] = set()
        self.events = 0
        self.last_id = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def act(self, kind: str, rater_id: str, target: str, value: Any, key: str | None, **fields: Any) -> None:
        act = NewFeedback(kind, rater_id, "web", idempotency_key=key, **fields)  # type: ignore[arg-type]
        ack = self.store.write(feedback.add_feedback, act)
        known = self.receipts.get((rater_id, key)) if key else None
        assert ack.duplicate == (known is not None)
        if known is not None:
            assert ack.feedback_id == known
            return
        assert ack.feedback_id > self.last_id
        self.last_id = ack.feedback_id
        self.events += 1
        if key:
            self.receipts[rater_id, key] = ack.feedback_id
        self.held.pop((rater_id, kind, target), None)
        if value is not None:
            self.held[rater_id, kind, target] = value

    @rule(rater_id=RATERS, reply_id=REPLIES, thumb=st.sampled_from(["up", "down", None]), key=KEYS)
    def thumb(self, rater_id: str, reply_id: str, thumb: str | None, key: str | None) -> None:
        self.act("thumb", rater_id, reply_id, thumb, key, reply_id=reply_id, thumb=thumb)

    @rule(rater_id=RATERS, verdict=st.sampled_from(["x", "y", "tie", "both_bad", None]), key=KEYS)
    def verdict(self, rater_id: str, verdict: str | None, key: str | None) -> None:
        self.act("verdict", rater_id, "pair", verdict, key, comparison_id="pair", verdict=verdict)

    @rule(rater_id=RATERS, ranking=st.permutations(["x", "y"]), key=KEYS)
    def ranking(self, rater_id: str, ranking: list[str], key: str | None) -> None:
        self.act("ranking", rater_id, "pair", tuple(ranking), key, comparison_id="pair", ranking=tuple(ranking))

    @rule(rater_id=RATERS, reply_id=REPLIES, correction=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    def correction(self, rater_id: str, reply_id: str, correction: str) -> None:
        if "\x00" in correction:
            with pytest.raises(Refused):
                self.act("correction", rater_id, reply_id, correction, None, reply_id=reply_id, correction=correction)
            return
        self.act("correction", rater_id, reply_id, correction, None, reply_id=reply_id, correction=correction)

    @rule(rater_id=RATERS)
    def on_nothing(self, rater_id: str) -> None:
        with pytest.raises(NotFound):
            self.act("thumb", rater_id, "none", "up", None, reply_id="none", thumb="up")

    @rule(rater_id=RATERS, quarantined=st.booleans())
    def quarantine(self, rater_id: str, quarantined: bool) -> None:
        if quarantined and rater_id not in self.quarantined:
            self.store.write(quarantines.begin_by_hand, rater_id, reason="?", begun_by="olga")
        elif not quarantined:
            self.store.write(quarantines.release_rater, rater_id, actor="olga")
        (self.quarantined.add if quarantined else self.quarantined.discard)(rater_id)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.url)

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {}
        for entry in self.store.read(feedback.effective_feedback, include_quarantined=True, include_unapproved=True):
            act = entry.act
            value = act.thumb or act.verdict or act.ranking or act.correction
            found[act.rater_id, act.kind, str(act.reply_id or act.comparison_id)] = value
        assert found == self.held
        trusted = {act.act.rater_id for act in self.store.read(feedback.effective_feedback, include_unapproved=True)}
        assert trusted == {rater_id for rater_id, _, _ in self.held} - self.quarantined
        counts = self.store.read(feedback.counts)
        assert counts["events"] == self.events
        assert counts["up"] == sum(value == "up" for (_, kind, _), value in self.held.items() if kind == "thumb")
        assert counts["corrections"] == sum(kind == "correction" for _, kind, _ in self.held)
        assert counts["verdicts"] == sum(kind == "verdict" for _, kind, _ in self.held)


def test_what_the_store_says_is_what_a_dict_says(new_url: Callable[[], str]) -> None:
    FeedbackMachine.new_url = staticmethod(new_url)
    run_state_machine_as_test(
        FeedbackMachine,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
