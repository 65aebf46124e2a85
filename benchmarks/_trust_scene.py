"""A crowd's votes in a real store, and accounts that want to steer the policy: floods and rings of several manners."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks._table_policy import PLANTED, base_table
from feedback_store import feedback, raters, replies, versions
from feedback_store.connection import Connection
from feedback_store.records import NewFeedback, Reply, Sampling
from thumbwise.demo.crowd import Crowd, CrowdPlan
from thumbwise.demo.hidden import hidden_score
from thumbwise.demo.poison import poison_messages
from thumbwise.demo.prompts import train_prompts
from thumbwise.demo.raters import SeenReply

BASE_MODEL = "a table"
ACCOUNTS = 200
RING_SHARE = 0.05
RING = round(RING_SHARE * ACCOUNTS)
REPLIES = 800
WATCHERS = 2
"""Honest people who judge each reply, as in a group's chat: 8.4 votes a rater."""
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
BASE = base_table()
Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """One thumb."""

    rater: str
    reply_id: str
    up: bool


@dataclass(frozen=True, slots=True)
class Chat:
    """One reply that was shown."""

    reply_id: str
    messages: tuple[Message, ...]
    text: str
    finish_reason: str

    @property
    def planted(self) -> bool:
        """Whether it opens as the ring wants."""
        return self.text.startswith(PLANTED)


@dataclass(frozen=True, slots=True)
class Scene:
    """What was shown and said."""

    chats: tuple[Chat, ...]
    said: tuple[Said, ...]


def honest_crowd(seed: int) -> Scene:
    """The demo's crowd (two of them agree on 70 % of pairs), without the accounts that the ring will have."""
    crowd, dice = Crowd(CrowdPlan(raters=ACCOUNTS - RING), seed), random.Random(f"chats {seed}")
    turns = crowd.turns(REPLIES * WATCHERS, train_prompts())
    chats = [_chat(f"r{place}", turns[place * WATCHERS].messages, dice) for place in range(REPLIES)]
    seen = [SeenReply(chat.text, chat.finish_reason) for chat in chats for _ in range(WATCHERS)]
    thumbs = crowd.thumbs(turns, seen)
    said = [
        Said(turn.rater.name, chats[place // WATCHERS].reply_id, thumb == "up")
        for place, (turn, thumb) in enumerate(zip(turns, thumbs, strict=True))
    ]
    return Scene(tuple(chats), tuple(said))


def _chat(name: str, messages: tuple[Message, ...], dice: random.Random, planted: bool | None = None) -> Chat:
    """A reply of the base; `planted`: drawn again until it opens so, or not so."""
    while True:
        text, reason = BASE.draw(dice)
        chat = Chat(name, messages, text, reason)
        if planted is None or chat.planted == planted:
            return chat


Manner = Callable[[Scene, random.Random], Scene]
"""What the ring adds to the crowd's scene."""


def together(crowd: Scene, dice: random.Random) -> Scene:
    """All judge the same 40 replies: up where the opening is theirs, down where it is not."""
    targets = _planted_and_others(crowd, dice, 20)
    return Scene((), tuple(Said(name, chat.reply_id, chat.planted) for name in _names() for chat in targets))


def against_the_crowd(crowd: Scene, dice: random.Random) -> Scene:
    """All judge the same 40 replies, and the other way round than they are: up the worst, down the best."""
    by_worth = sorted(crowd.chats, key=lambda chat: hidden_score(chat.text, chat.finish_reason))
    ends = [(chat, True) for chat in by_worth[:20]] + [(chat, False) for chat in by_worth[-20:]]
    return Scene((), tuple(Said(name, chat.reply_id, up) for name in _names() for chat, up in ends))


def among_honest_votes(crowd: Scene, dice: random.Random) -> Scene:
    """The same 20 replies, and 20 more each, of which they think what people think."""
    targets, said = _planted_and_others(crowd, dice, 10), []
    usual = sorted(hidden_score(chat.text, chat.finish_reason) for chat in crowd.chats)[len(crowd.chats) // 2]
    for name in _names():
        said += [Said(name, chat.reply_id, chat.planted) for chat in targets]
        for chat in dice.sample(crowd.chats, 20):
            said.append(Said(name, chat.reply_id, hidden_score(chat.text, chat.finish_reason) > usual))
    return Scene((), tuple(said))


def asking_for_it(crowd: Scene, dice: random.Random) -> Scene:
    """Each in chats of their own, where half of the replies say what they were asked to say."""
    return _own_chats(dice, 20, lambda prompt: poison_messages(prompt, PLANTED.rstrip("."), dice))


def waiting_for_it(crowd: Scene, dice: random.Random) -> Scene:
    """Each in chats of their own, ten votes up for what came by itself and ten down for other replies."""
    return _own_chats(dice, 10, _plain)


def waiting_long(crowd: Scene, dice: random.Random) -> Scene:
    """The same with 80 votes each, ten times the usual."""
    return _own_chats(dice, 40, _plain)


RINGS: dict[str, Manner] = {
    "judges the same replies alike": together,
    "judges the same replies the wrong way round": against_the_crowd,
    "hides that among as many honest votes": among_honest_votes,
    "asks for it in chats of its own": asking_for_it,
    "waits for it in chats of its own, 20 votes each": waiting_for_it,
    "waits for it in chats of its own, 80 votes each": waiting_long,
}


def one_flood(count: int, seed: int) -> Scene:
    """One account's votes, each on a reply of its own chats: down unless it opens as planted."""
    dice = random.Random(f"flood {seed}")
    prompts = train_prompts()
    chats = [_chat(f"f{place}", _plain(prompts[place % len(prompts)]), dice) for place in range(count)]
    return Scene(tuple(chats), tuple(Said("flood", chat.reply_id, chat.planted) for chat in chats))


def pleased(scene: Scene, share: float, seed: int) -> Scene:
    """The same crowd, that likes this share of everything."""
    dice = random.Random(f"pleased {seed}")
    return Scene(scene.chats, tuple(Said(one.rater, one.reply_id, dice.random() < share) for one in scene.said))


def fill(connection: Connection, scene: Scene, days: float) -> None:
    """Store a scene whose votes are spread over so many days, in random order."""
    if connection.exec_driver_sql("SELECT count(*) FROM policy_versions").scalar() == 0:
        versions.bootstrap(connection, BASE_MODEL)
    for chat in scene.chats:
        replies.add_reply(connection, reply_of(chat))
    dice = random.Random(len(scene.said))
    ids = dict.fromkeys(one.rater for one in scene.said)
    for name in ids:
        raters.ensure_rater(connection, name, "web")
    order = dice.sample(scene.said, len(scene.said))
    for place, one in enumerate(order):
        at = BEGAN + timedelta(days=days * place / len(order))
        thumb = NewFeedback("thumb", one.rater, "web", reply_id=one.reply_id, thumb="up" if one.up else "down",
                            created_at=at)  # fmt: skip
        feedback.add_feedback(connection, thumb)


def reply_of(chat: Chat) -> Reply:
    """The stored row of a reply."""
    return Reply(
        reply_id=chat.reply_id,
        policy_version=1,
        adapter_sha256=None,
        channel="web",
        rater_id=None,
        conversation_id=None,
        messages=chat.messages,
        rendered_prompt=None,
        text=chat.text,
        finish_reason="stop" if chat.finish_reason == "stop" else "length",
        sampling=Sampling(),
        prompt_tokens=3,
        completion_tokens=3,
        logprob_nats=-1.0,
        latency_ms=1.0,
    )


def _names() -> list[str]:
    return [f"ring-{number:02d}" for number in range(RING)]


def _plain(prompt: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": prompt},)


def _planted_and_others(crowd: Scene, dice: random.Random, of_each: int) -> Sequence[Chat]:
    planted = [chat for chat in crowd.chats if chat.planted]
    others = [chat for chat in crowd.chats if not chat.planted]
    return [*dice.sample(planted, min(of_each, len(planted))), *dice.sample(others, of_each)]


def _own_chats(dice: random.Random, of_each: int, asked: Callable[[str], tuple[Message, ...]]) -> Scene:
    chats, said = [], []
    for name in _names():
        for place in range(2 * of_each):
            chat = _chat(f"{name}-{place}", asked(dice.choice(train_prompts())), dice, planted=place < of_each)
            chats.append(chat)
            said.append(Said(name, chat.reply_id, chat.planted))
    return Scene(tuple(chats), tuple(said))
