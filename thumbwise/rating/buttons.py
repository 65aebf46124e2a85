"""Buttons whose data is short, signed and says everything: no table to look a click up in, nothing lost in a restart.

A button's data is `tw1.` and base64url of

    act · detail · kind of target · target · [owner, 8 bytes] · [minute of issue, 4 · nonce, 2 bytes] · MAC, 8 bytes

which is 43 to 63 characters for ids of ours: Telegram allows 64, Discord 100. The MAC (HMAC-SHA256, cut to 64 bits:
whoever guesses online needs 2^63 clicks) also covers the bot and the chat, so data carried into another chat or
to another bot is forged data. The owner is the only one who may press; without one, anybody in the chat may. A button
that acts once (a confirmation) ages, and a second event with the same data is refused as a replay; the same event may
come again, because an inbox that was cut off mid-way works on it again. What was used is remembered in memory for as
long as such a button lives: an act behind one must be harmless to repeat after a restart (they are: each is absolute,
or names the state it expects).

Ids of ours are `11 hex - 20 hex`, and 22 characters as base64; a reply of a comparison is the comparison's id, a dash
and its place, which travels as `detail`. Other texts are taken as they are, as far as they fit.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

PREFIX = "tw1."
PATTERN = r"^tw1\."
"""For a handler that shall see our buttons and no other."""
MAC_BYTES, ISSUED_BYTES, OWNER_BYTES, NONCE_BYTES = 8, 4, 8, 2
LIFE_MINUTES = 15
"""How long a button that acts once may wait for its press."""
_OWNED, _ONCE = 64, 128
_NO_TARGET, _OUR_ID, _NUMBER, _TEXT = range(4)
_OUR_ID_FORM = re.compile(r"([0-9a-f]{11})-([0-9a-f]{20})")

RefusalReason = Literal["forged", "not_yours", "expired", "replayed"]


class Act(IntEnum):
    """What a press asks for. Numbers are for ever: a button of last year must mean the same today."""

    THUMB_UP = 1
    THUMB_DOWN = 2
    THUMB_NONE = 3
    REASON = 4
    """`detail`: place in `cards.REASONS_UP` or `REASONS_DOWN`; down from 100 on."""
    CHOOSE = 5
    """`target`: the comparison; `detail`: the place of the better reply."""
    TIE = 6
    BOTH_BAD = 7
    VERDICT_NONE = 8
    REGENERATE = 9
    CORRECT = 10
    CONSENT_YES = 11
    CONSENT_NO = 12
    FORGET = 13
    DISMISS = 14
    WHY = 15
    """Opens the form that asks for a reason; `detail`: 0 after 👍, 1 after 👎."""
    ADMIN = 20
    """`detail`: place in `bot.admin.ACTIONS`; `target`: a number, or nothing."""


THUMBS: dict[Act, Literal["up", "down"] | None] = {Act.THUMB_UP: "up", Act.THUMB_DOWN: "down", Act.THUMB_NONE: None}
VERDICTS: dict[Act, str | None] = {Act.TIE: "tie", Act.BOTH_BAD: "both_bad", Act.VERDICT_NONE: None}
"""Acts and what they say of a reply, or of a comparison beside `Act.CHOOSE`."""


@dataclass(frozen=True, slots=True)
class Button:
    """A press, before it is signed or after it was verified."""

    act: Act
    target: str = ""
    detail: int = 0
    owner: int | None = None
    """The one user who may press; None: anybody in the chat."""
    once: bool = False
    """Ages, and is used up by its press."""


class ButtonRefused(ValueError):
    """The data is not what we signed for this chat and this person; `reason` says why."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(f"button data refused: {reason}")
        self.reason: RefusalReason = reason


@dataclass(frozen=True, slots=True)
class ButtonSecrets:
    """What buttons are signed with, and what older ones were signed with."""

    newest: bytes | str = field(repr=False)
    former: tuple[tuple[bytes | str, float], ...] = field(default=(), repr=False)
    """Each with the time (seconds since 1970) until which it is still known."""


class ButtonSigner:
    """Signs and verifies the buttons of one bot.

    `secret` is anything that only the bot's operator knows: its token, unless there is better. `scope` names platform
    and bot (`telegram:123`). `refused` counts refusals by reason, for metrics and tests.
    """

    def __init__(self, secret: bytes | str | ButtonSecrets, scope: str, clock: Callable[[], float] = time.time) -> None:
        given = secret if isinstance(secret, ButtonSecrets) else ButtonSecrets(secret)
        self._key = _key_of(given.newest, scope)
        self._former = tuple((_key_of(one, scope), until) for one, until in given.former)
        self._clock = clock
        self._used: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        self.refused: Counter[RefusalReason] = Counter()

    def data(self, button: Button, chat: int | str) -> str:
        """Return the signed data of a button that is shown in `chat`. Raises ValueError for what cannot be packed."""
        body = _pack(button, self._minute())
        return PREFIX + base64.urlsafe_b64encode(body + _mac(self._key, body, chat)).decode().rstrip("=")

    def read(self, data: str, chat: int | str, clicker: int, event: str = "") -> Button:
        """Return the button that `clicker` pressed in `chat`. Raises ButtonRefused, and counts it.

        `event` is the platform's id of the press: a button that acts once may be read again by the same event alone.
        """
        try:
            return self._read(data, chat, clicker, event)
        except ButtonRefused as refusal:
            self.refused[refusal.reason] += 1
            raise

    def glance(self, data: str, chat: int | str) -> Button | None:
        """Return what a button in a message of `chat` stands for, whoever looks; None for one that is not ours."""
        try:
            return self._opened(data, chat)[0]
        except ButtonRefused:
            return None

    def _read(self, data: str, chat: int | str, clicker: int, event: str) -> Button:
        button, issued, mac = self._opened(data, chat)
        if button.owner is not None and button.owner != clicker:
            raise ButtonRefused("not_yours")
        if button.once:
            present = self._minute()
            if not 0 <= present - issued <= LIFE_MINUTES:
                raise ButtonRefused("expired")
            self._forget_used(present)
            used_by, _ = self._used.setdefault(mac, (event, present))
            if used_by != event:
                raise ButtonRefused("replayed")
        return button

    def _opened(self, data: str, chat: int | str) -> tuple[Button, int, bytes]:
        if not data.startswith(PREFIX) or len(data) > 100 or not data.isascii():
            raise ButtonRefused("forged")
        encoded = data.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            body, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
            if not any(hmac.compare_digest(mac, _mac(key, body, chat)) for key in self._known()):
                raise ButtonRefused("forged")
            button, issued = _unpack(body)
        except (binascii.Error, IndexError, ValueError) as error:
            raise error if isinstance(error, ButtonRefused) else ButtonRefused("forged") from error
        return button, issued, mac

    def _known(self) -> Iterator[bytes]:
        yield self._key
        present = self._clock()
        yield from (key for key, until in self._former if present < until)

    def _minute(self) -> int:
        return int(self._clock() // 60)

    def _forget_used(self, present: int) -> None:
        while self._used:
            mac, (_, used_at) = next(iter(self._used.items()))
            if present - used_at <= LIFE_MINUTES:
                return
            del self._used[mac]


def _key_of(secret: bytes | str, scope: str) -> bytes:
    raw = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(raw, b"thumbwise buttons\x00" + scope.encode(), hashlib.sha256).digest()


def _mac(key: bytes, body: bytes, chat: int | str) -> bytes:
    return hmac.new(key, str(chat).encode() + b"\x00" + body, hashlib.sha256).digest()[:MAC_BYTES]


def reply_in(comparison_id: str, place: int) -> str:
    """Return the id of the reply at a place of a comparison, as the server gives them out."""
    return f"{comparison_id}-{place}"


def _pack(button: Button, minute: int) -> bytes:
    if not 0 <= button.detail <= 255:
        raise ValueError(f"detail is {button.detail}, wanted 0 to 255")
    kind, target = _packed_target(button.target)
    kind |= (_OWNED if button.owner is not None else 0) | (_ONCE if button.once else 0)
    owner = b"" if button.owner is None else button.owner.to_bytes(OWNER_BYTES, "big", signed=True)
    # The nonce tells two confirmations of one minute apart: the second is no replay of the first.
    once = minute.to_bytes(ISSUED_BYTES, "big") + secrets.token_bytes(NONCE_BYTES) if button.once else b""
    return bytes((button.act, button.detail, kind)) + target + owner + once


def _packed_target(target: str) -> tuple[int, bytes]:
    if not target:
        return _NO_TARGET, b""
    if ours := _OUR_ID_FORM.fullmatch(target):
        return _OUR_ID, bytes.fromhex("0" + ours[1] + ours[2])
    if target.isascii() and target.isdigit() and str(int(target)) == target and len(target) <= 18:
        return _NUMBER, int(target).to_bytes(8, "big")
    raw = target.encode()
    if len(raw) > 64:
        raise ValueError(f"target has {len(raw)} bytes, wanted at most 64")
    return _TEXT, bytes((len(raw),)) + raw


def _unpack(body: bytes) -> tuple[Button, int]:
    act, detail, kind, rest = Act(body[0]), body[1], body[2], body[3:]
    form = kind & 3
    target = ""
    if form == _OUR_ID:
        digits, rest = rest[:16].hex(), rest[16:]
        target = f"{digits[1:12]}-{digits[12:]}"
    elif form == _NUMBER:
        target, rest = str(int.from_bytes(rest[:8], "big")), rest[8:]
    elif form == _TEXT:
        target, rest = rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0] :]
    button = Button(act, target, detail)
    if kind & _OWNED:
        button = replace(button, owner=int.from_bytes(rest[:OWNER_BYTES], "big", signed=True))
        rest = rest[OWNER_BYTES:]
    issued = 0
    if kind & _ONCE:
        button, issued = replace(button, once=True), int.from_bytes(rest[:ISSUED_BYTES], "big")
    return button, issued
