"""POST /v1/candidates: varied replies to one prompt, kept once, put before the annotators, and only of who consents."""

from dataclasses import replace

import pytest

from benchmarks._word_engine import WordEngine, WordStream
from feedback_store import annotation_labels, quarantines, rater_data, raters, review
from feedback_store.replies import add_reply, get_comparison, get_reply, recent_replies
from serving.settings import DuelSettings
from tests.serving.test_duels import Lengths
from tests.trainer.parts import make_reply

HELLO = {"messages": [{"role": "user", "content": "Name a bird."}]}


class Parrot(WordEngine):
    """Says the same whatever the seed, for the first `times` replies."""

    def __init__(self, times):
        super().__init__()
        self.times, self.started = times, 0

    def start(self, request):
        self.started += 1
        seed = 1 if self.started <= self.times else request.sampling.seed
        plain = replace(request, prompt_ids=(1,), sampling=replace(request.sampling, seed=seed))
        return WordStream(self, plain, self.live)


@pytest.fixture
def make(admin):
    def make(**body):
        answer = admin.post("/v1/candidates", json=body or HELLO)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return make


def test_candidates_differ_are_kept_and_wait_for_annotators(context, make, store):
    context.engine = Lengths(8, 1, 20)
    made = make(**HELLO, replies=3)
    assert (made["outcome"], made["drawn"], len(made["reply_ids"])) == ("made", 3, 3)
    comparison = store.read(get_comparison, made["comparison_id"])
    assert comparison.channel == "candidates" and list(comparison.reply_ids) == made["reply_ids"]
    assert comparison.drawing == {"candidates": 3, "by": "varied", "distance": made["distance"]}
    texts = [store.read(get_reply, name).text for name in made["reply_ids"]]
    assert sorted(len(text.split()) for text in texts) == [1, 8, 16]
    given = store.write(annotation_labels.next_assignment, "user:ada")
    assert given is not None and (given.task.queue, given.task.overlap) == ("candidates", 2)
    assert sorted(reply.reply_id for reply in given.replies) == sorted(made["reply_ids"])


def test_a_prompt_is_drawn_for_once_a_batch(make, store):
    first, again, other = make(), make(), make(**HELLO, batch="second")
    assert (again["outcome"], again["comparison_id"], again["drawn"]) == ("known", first["comparison_id"], 0)
    assert set(again["reply_ids"]) == set(first["reply_ids"])
    assert other["outcome"] == "made" and other["comparison_id"] != first["comparison_id"]
    assert len(store.read(recent_replies, 100)) == 6


def test_alike_candidates_are_drawn_again(context, make):
    context.engine, context.duels = Parrot(2), DuelSettings(hint_share=0)
    made = make(**HELLO, replies=2)
    assert made["outcome"] == "made" and made["drawn"] == 4


def test_a_prompt_that_gives_only_alike_ones_says_so_and_keeps_nothing(context, make, store):
    context.engine, context.duels = Parrot(1000), DuelSettings(hint_share=0)
    assert make(**HELLO, replies=2) == {
        "outcome": "alike", "comparison_id": None, "reply_ids": [], "distance": 0.0, "drawn": 6,
    }  # fmt: skip
    assert store.read(recent_replies, 10) == []


def test_a_hinted_candidate_is_a_reply_to_the_plain_prompt(context, make, store):
    context.duels = DuelSettings(hint_share=0.999999, hints=("Be brief.",))
    replies = [store.read(get_reply, name) for name in make()["reply_ids"]]
    assert any(reply.metadata.get("hint") == "Be brief." for reply in replies)
    assert {reply.rendered_prompt for reply in replies} == {"user: Name a bird."}


@pytest.fixture
def conversation(store):
    """Replies to real people: of two who agree, one of them twice the same prompt, and of one who does not."""

    def fill(connection):
        for name, agreed in (("anna", True), ("ben", True), ("cleo", False)):
            raters.ensure_rater(connection, name, "web")
            raters.set_consent(connection, name, "web", agreed, 1)
        add_reply(connection, make_reply("a-1", prompt="sing", rater_id="anna", policy_version=1))
        add_reply(connection, make_reply("a-2", prompt="sing", rater_id="anna"))
        add_reply(connection, make_reply("b-1", prompt="dance", rater_id="ben"))
        add_reply(connection, make_reply("c-1", prompt="hide", rater_id="cleo"))
        add_reply(connection, make_reply("d-1", text=None))

    store.write(fill)


def prompts(admin):
    return [row["reply_id"] for row in admin.get("/v1/candidates/prompts").json()["data"]]


def test_prompts_of_people_who_consent_are_offered_once_and_their_candidates_leave_with_them(
    conversation, admin, make, store
):
    assert sorted(prompts(admin)) in (["a-1", "b-1"], ["a-2", "b-1"])
    made = make(reply_id="b-1")
    replies = [store.read(get_reply, name) for name in made["reply_ids"]]
    assert {reply.messages[0]["content"] for reply in replies} == {"dance"}
    assert {(reply.rater_id, reply.conversation_id) for reply in replies} == {("ben", None)}
    assert len(prompts(admin)) == 2, "candidates are no prompts of people"
    store.write(rater_data.erase_rater, "ben")
    assert store.read(get_reply, made["reply_ids"][0]).text is None
    assert store.write(annotation_labels.next_assignment, "user:ada") is None


def test_prompts_of_people_in_quarantine_or_left_out_by_an_operator_are_not_offered(conversation, admin, store):
    store.write(quarantines.begin_by_hand, "ben", reason="?", begun_by="olga")
    targets = [review.Target(name, 0) for name in ("a-1", "a-2")]
    store.write(review.act, "exclude", targets, actor="olga", reason="private")
    assert prompts(admin) == []


@pytest.mark.parametrize("reply_id", ["c-1", "d-1", "nobody"])
def test_a_prompt_that_may_not_be_used_is_refused(conversation, admin, reply_id):
    assert admin.post("/v1/candidates", json={"reply_id": reply_id}).status_code == 404


@pytest.mark.parametrize("body", [{}, {**HELLO, "reply_id": "a"}, {**HELLO, "replies": 5}, {**HELLO, "batch": "A b"},
                                  {**HELLO, "max_tokens": 65}])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(admin, body):
    assert admin.post("/v1/candidates", json=body).status_code == 400


def test_only_a_key_for_it_may_ask(client):
    assert client.post("/v1/candidates", json=HELLO).status_code == 401
    assert client.get("/v1/candidates/prompts").status_code == 401
