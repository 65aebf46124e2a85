"""Exports and imports: trl's columns, the right rows, there and back without loss, all or nothing, never twice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import exports, feedback, quarantines, raters, replies, review, versions
from feedback_store.errors import Refused
from feedback_store.exports import Format
from feedback_store.import_plan import plan_row
from feedback_store.records import NewFeedback
from feedback_store.store import Store
from tests.databases import url_of
from tests.store.conftest import BASE_MODEL, PROMPT, Scene

NOON = datetime(2025, 1, 10, 12, 0, tzinfo=UTC)
FORMATS: tuple[Format, ...] = ("events", "unpaired", "preference", "sft")
ASKED = [dict(message) for message in PROMPT]


def rows(store: Store, format: Format, **filters: Any) -> list[dict[str, Any]]:
    return store.read(lambda connection: list(exports.export_rows(connection, format, **filters)))


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def rated(scene: Scene) -> Scene:
    """A store with acts of every kind: superseded, retracted, tied, of a quarantined rater, without text."""
    scene.rater("anna", "ben", "cleo")
    scene.reply("one", "two", rater_id="anna")
    scene.reply("silent", text=None, messages=None, rendered_prompt=None)
    scene.comparison("trio", ("x", "y", "z"))
    scene.comparison("twins", ("same-1", "same-2"), text="the same text")
    scene.act("thumb", "anna", reply_id="one", thumb="up", created_at=NOON)
    scene.act("thumb", "anna", reply_id="one", thumb="down", reason="too long", created_at=NOON + timedelta(hours=1))
    scene.act("thumb", "ben", reply_id="one", thumb="up", channel="telegram", created_at=NOON + timedelta(hours=2))
    scene.act("thumb", "ben", reply_id="two", thumb="up", created_at=NOON + timedelta(hours=3))
    scene.act("thumb", "ben", reply_id="two", thumb=None, created_at=NOON + timedelta(hours=4))
    scene.act("thumb", "anna", reply_id="silent", thumb="up", created_at=NOON + timedelta(hours=5))
    scene.act("thumb", "cleo", reply_id="two", thumb="down", created_at=NOON + timedelta(hours=5))
    scene.act("verdict", "anna", comparison_id="trio", verdict="y")
    scene.act("ranking", "ben", comparison_id="trio", ranking=("z", "x", "y"))
    scene.act("verdict", "ben", comparison_id="twins", verdict="same-1")
    scene.act("verdict", "cleo", comparison_id="twins", verdict="tie")
    scene.act("correction", "ben", reply_id="one", correction="Ships see it.")
    scene.store.write(quarantines.begin_by_hand, "cleo", reason="?", begun_by="olga")
    return scene


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """Another, empty store."""
    with Store.open(url_of(tmp_path / "other")) as store:
        store.write(versions.bootstrap, BASE_MODEL)
        yield store


def test_unpaired_rows_are_the_thumbs_that_hold(rated: Scene) -> None:
    found = rows(rated.store, "unpaired")
    assert [(row["rater_id"], row["reply_id"], row["label"]) for row in found] == [
        ("anna", "one", False),
        ("ben", "one", True),
    ]
    assert found[0] == {
        "prompt": ASKED,
        "completion": said("the text of one"),
        "label": False,
        "reply_id": "one",
        "feedback_id": 2,
        "rater_id": "anna",
        "policy_version": 1,
        "channel": "web",
        "created_at": "2025-01-10T13:00:00+00:00",
    }


def test_preference_rows_are_the_pairs_that_verdicts_and_rankings_order(rated: Scene) -> None:
    found = rows(rated.store, "preference")
    pairs = [(row["rater_id"], row["chosen_reply_id"], row["rejected_reply_id"]) for row in found]
    assert pairs == [
        ("anna", "y", "x"),
        ("anna", "y", "z"),
        ("ben", "z", "x"),
        ("ben", "z", "y"),
        ("ben", "x", "y"),
    ]  # neither the tie nor the pair of equal texts
    assert found[0]["prompt"] == ASKED
    assert (found[0]["chosen"], found[0]["rejected"]) == (said("the text of y"), said("the text of x"))


def test_of_a_verdict_and_a_ranking_by_one_rater_the_later_counts(rated: Scene) -> None:
    rated.act("verdict", "ben", comparison_id="trio", verdict="y")
    chosen = [row["chosen_reply_id"] for row in rows(rated.store, "preference") if row["rater_id"] == "ben"]
    assert chosen == ["y", "y"]


def test_sft_rows_are_corrections(rated: Scene) -> None:
    (found,) = rows(rated.store, "sft")
    assert (found["prompt"], found["completion"]) == (ASKED, said("Ships see it."))
    assert (found["rater_id"], found["reply_id"], found["approved"]) == ("ben", "one", None)
    target = review.Target("one", 0, feedback_id=found["feedback_id"])
    rated.store.write(review.act, "approve", [target], actor="olga")
    assert rows(rated.store, "sft")[0]["approved"] is True


def test_what_an_operator_excluded_is_in_no_row_but_an_event(rated: Scene) -> None:
    acts = len(rows(rated.store, "events"))
    rated.store.write(review.act, "exclude", [review.Target(name, 0) for name in ("one", "x")], actor="olga")
    assert [row["reply_id"] for row in rows(rated.store, "unpaired")] == []
    assert rows(rated.store, "sft") == [] and rows(rated.store, "preference") == []
    assert len(rows(rated.store, "events")) == acts


def test_events_are_every_act_as_it_was_stored(rated: Scene) -> None:
    found = rows(rated.store, "events")
    assert [row["feedback_id"] for row in found] == list(range(1, 13))
    silent = next(row for row in found if row["reply_id"] == "silent")
    assert (silent["thumb"], silent["prompt"], silent["completion"]) == ("up", None, None)
    verdict = next(row for row in found if row["verdict"] == "y")
    assert [one["reply_id"] for one in verdict["candidates"]] == ["x", "y", "z"]


def test_filters_choose_by_time_channel_and_version(rated: Scene) -> None:
    def ids(format: Format, **filters: Any) -> list[int]:
        return [row["feedback_id"] for row in rows(rated.store, format, **filters)]

    assert ids("unpaired", since=NOON + timedelta(hours=2)) == [3]
    assert ids("unpaired", until=NOON + timedelta(hours=2)) == [2]
    assert ids("unpaired", channel="telegram") == [3]
    assert ids("unpaired", policy_version=1) == [2, 3] and ids("unpaired", policy_version=2) == []
    assert ids("preference", policy_version=2) == []
    # A thumb that was retracted later does not come back because the retraction is outside the time asked for.
    assert ids("unpaired", since=NOON + timedelta(hours=3), until=NOON + timedelta(hours=4)) == []
    assert ids("events", since=NOON + timedelta(hours=3), until=NOON + timedelta(hours=4)) == [4]
    with pytest.raises(Refused) as refused:
        rows(rated.store, "csv")  # type: ignore[arg-type]
    assert refused.value.field == "format"


def test_words_of_a_rater_who_took_consent_back_stay_in_the_store(rated: Scene) -> None:
    rated.store.write(raters.set_consent, "anna", "web", False, 1)
    rated.store.write(raters.set_consent, "ben", "web", False, 1)
    assert rows(rated.store, "unpaired") == []
    assert rows(rated.store, "sft") == []
    found = json.dumps(rows(rated.store, "events"))
    assert "too long" not in found and "Ships see it" not in found and "the text of one" not in found
    assert "the text of x" in found


def test_columns_are_trls_and_the_same_with_and_without_rows(rated: Scene, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for format in FORMATS:
        written = rows(rated.store, format)
        assert written
        for name, some in (("full", written), ("empty", [])):
            path = tmp_path / f"{name}.parquet"
            assert exports.write_parquet(some, path, format) == len(some)
            assert pq.read_schema(path).names[: len(written[0])] and set(pq.read_schema(path).names) == set(written[0])
            assert list(exports.read_parquet(path)) == some


def test_files_are_written_whole_or_not_at_all(rated: Scene, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    written = rows(rated.store, "unpaired")
    assert exports.write_jsonl(written, path) == 2
    assert [json.loads(line) for line in path.read_text().splitlines()] == written

    def breaking() -> Iterator[dict[str, Any]]:
        yield written[0]
        raise LookupError("the store went away")

    for write in (exports.write_jsonl, lambda some, to: exports.write_parquet(some, to, "unpaired")):
        with pytest.raises(LookupError):
            write(breaking(), path)
    assert len(path.read_text().splitlines()) == 2
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix not in (".db", ".lock")].count(path.name) == 1
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


COMPARED = {
    "events": ("kind", "rater_id", "thumb", "correction", "reason", "prompt", "completion", "created_at"),
    "unpaired": ("rater_id", "prompt", "completion", "label", "created_at"),
    "preference": ("rater_id", "prompt", "chosen", "rejected", "created_at"),
    "sft": ("rater_id", "prompt", "completion", "created_at"),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("file", ["jsonl", "parquet"])
def test_what_one_store_exports_another_imports_once_and_exports_again(
    rated: Scene, other: Store, tmp_path: Path, format: Format, file: str
) -> None:
    written = rows(rated.store, format)
    path = tmp_path / f"rows.{file}"
    for attempt in range(2):
        if file == "jsonl":
            exports.write_jsonl(written, path)
            with path.open("rb") as lines:
                report = other.write(exports.import_jsonl, format, lines)
        else:
            exports.write_parquet(written, path, format)
            report = other.write(exports.import_rows, format, exports.read_parquet(path))
        new = len(written) if attempt == 0 else 0
        assert (report.rows, report.added, report.duplicates) == (len(written), new, len(written) - new)
        assert (report.bad_rows, report.errors) == (0, ())
    again = rows(other, format)
    names = COMPARED[format]
    assert [{name: row[name] for name in names} for row in again] == [
        {name: row[name] for name in names} for row in written
    ]
    assert {(row["channel"], row["policy_version"]) for row in again} == {("import", 1)}
    if format == "events":  # what holds is the same too, ids aside
        there, here = other.read(feedback.counts), rated.store.read(feedback.counts)
        assert there | {"replies": 0} == here | {"replies": 0}


@pytest.mark.parametrize("format", FORMATS)
def test_a_store_that_imports_its_own_export_has_nothing_new(rated: Scene, format: Format) -> None:
    before = rated.store.read(feedback.counts)
    report = rated.store.write(exports.import_rows, format, rows(rated.store, format))
    assert (report.added, report.bad_rows) == (0, 0)
    assert rated.store.read(feedback.counts) == before


def test_rows_as_bare_as_trls_own_data_are_welcome(other: Store) -> None:
    bare = [{"prompt": "Why?", "completion": "Because.", "label": True, "source": "elsewhere"}] * 2
    report = other.write(exports.import_rows, "unpaired", bare)
    assert (report.rows, report.added, report.duplicates) == (2, 1, 1)
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "Why not?"}
    assert other.write(exports.import_rows, "preference", [pair]).added == 1
    assert other.write(exports.import_rows, "sft", [{"prompt": "Why?", "completion": "Hm."}]).added == 1
    (row,) = rows(other, "preference")
    assert (row["prompt"], row["chosen"]) == ([{"role": "user", "content": "Why?"}], said("Because."))
    assert row["rater_id"] == "import"
    reply = other.read(replies.get_reply, row["chosen_reply_id"])
    assert (reply.channel, reply.policy_version, reply.logprob_nats) == ("import", 1, None)


def test_the_better_of_imported_pairs_is_not_always_on_the_left(other: Store) -> None:
    pairs = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(60)]
    other.write(exports.import_rows, "preference", pairs)
    left = 0
    for row in rows(other, "preference"):
        comparison = other.read(replies.get_comparison, row["comparison_id"])
        left += comparison.reply_ids[0] == row["chosen_reply_id"]
    assert 15 <= left <= 45


GOOD = {"prompt": "Why?", "completion": "Because.", "label": True}
PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
EVENT = {"kind": "thumb", "thumb": "up", "reply_id": "r", "rater_id": "anna"}
CANDIDATES = [{"reply_id": "a", "completion": said("1")}, {"reply_id": "b", "completion": None}]


@pytest.mark.parametrize(
    ("format", "row", "field"),
    [
        ("unpaired", 7, ""),
        ("unpaired", {}, "label"),
        ("unpaired", GOOD | {"label": 1}, "label"),
        ("unpaired", GOOD | {"label": "true"}, "label"),
        ("unpaired", GOOD | {"prompt": None}, "prompt"),
        ("unpaired", GOOD | {"prompt": []}, "prompt"),
        ("unpaired", GOOD | {"prompt": [{"role": "tool", "content": "x"}]}, "prompt.0.role"),
        ("unpaired", GOOD | {"prompt": [{"role": "user", "content": 3}]}, "prompt.0.content"),
        ("unpaired", GOOD | {"completion": [{"role": "user", "content": "x"}]}, "completion"),
        ("unpaired", GOOD | {"completion": "a\x00"}, "completion"),
        ("unpaired", GOOD | {"rater_id": "An na"}, "rater_id"),
        ("unpaired", GOOD | {"reply_id": "../x"}, "reply_id"),
        ("unpaired", GOOD | {"created_at": "yesterday"}, "created_at"),
        ("unpaired", GOOD | {"created_at": "2026-11-21T12:00:00"}, "created_at"),
        ("preference", PAIR | {"rejected": "Because."}, "rejected"),
        ("preference", PAIR | {"chosen": None}, "chosen"),
        ("sft", {"prompt": "Why?"}, "completion"),
        ("events", EVENT | {"kind": "clap"}, "kind"),
        ("events", EVENT | {"thumb": "left"}, "thumb"),
        ("events", EVENT | {"reply_id": None}, "reply_id"),
        ("events", EVENT | {"reason": 5}, "reason"),
        ("events", EVENT | {"kind": "correction"}, "correction"),
        ("events", EVENT | {"kind": "verdict"}, "candidates"),
        ("events", EVENT | {"kind": "verdict", "verdict": "c", "candidates": CANDIDATES}, "verdict"),
        ("events", EVENT | {"kind": "verdict", "candidates": [CANDIDATES[0]] * 2}, "candidates"),
        ("events", EVENT | {"kind": "verdict", "candidates": [3, 4]}, "candidates.0"),
        ("events", EVENT | {"kind": "ranking", "ranking": ["a"], "candidates": CANDIDATES}, "ranking"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field_and_nothing_is_imported(
    one_store: Store, format: Format, row: Any, field: str
) -> None:
    examples: dict[str, dict[str, Any]] = {"unpaired": GOOD, "preference": PAIR, "sft": GOOD, "events": EVENT}
    good = examples[format]
    before = one_store.read(feedback.counts)
    report = one_store.write(exports.import_rows, format, [good, row, good])
    assert (report.rows, report.added, report.bad_rows) == (3, 0, 1)
    assert [(error.line, error.field) for error in report.errors] == [(2, field)]
    assert "wanted" in report.errors[0].message
    assert one_store.read(feedback.counts) == before


def test_lines_that_are_no_json_are_bad_rows_and_empty_ones_are_passed_over(one_store: Store) -> None:
    lines: list[str | bytes] = [json.dumps(GOOD), "", "  \n", "{", b"\xff\xfe", '{"label": NaN}', "[" * 100_000]
    report = one_store.write(exports.import_jsonl, "unpaired", lines)
    assert (report.rows, report.added, report.bad_rows) == (5, 0, 4)
    assert [error.line for error in report.errors] == [4, 5, 6, 7]


def test_a_report_names_the_first_hundred_bad_rows_and_counts_the_rest(one_store: Store) -> None:
    report = one_store.write(exports.import_rows, "unpaired", [{}] * 250)
    assert (report.bad_rows, len(report.errors), report.errors[-1].line) == (250, 100, 100)


def test_an_import_waits_for_the_first_start(store_url: str) -> None:
    with Store.open(store_url) as store, pytest.raises(Refused, match="no version 1 yet"):
        store.write(exports.import_rows, "unpaired", [GOOD])


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


@given(prompt=TEXTS, completion=TEXTS, label=st.booleans())
def test_a_row_gives_the_same_records_every_time_and_another_row_others(
    prompt: str, completion: str, label: bool
) -> None:
    row = {"prompt": prompt, "completion": completion, "label": label}
    plan = plan_row("unpaired", row)
    assert plan == plan_row("unpaired", dict(reversed(row.items())))
    other = plan_row("unpaired", row | {"label": not label})
    assert other.replies == plan.replies
    assert other.act.idempotency_key != plan.act.idempotency_key
    assert plan_row("unpaired", row | {"prompt": prompt + "!"}).replies != plan.replies
    acted = replace(plan.act, idempotency_key=None)
    assert acted == NewFeedback(
        "thumb", "import", "import", reply_id=plan.replies[0].reply_id, thumb="up" if label else "down"
    )
