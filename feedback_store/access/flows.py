"""The way to a provider and back, bound to one browser, without a row of the database: a stranger can fill none.

The browser keeps a `Flow` in a cookie that no script reads. The state and PKCE's verifier are made from that cookie by
HMAC, under a key of this server: neither is stored, and a state fits the one browser that it was made for. A way to
link an account is bound to the session as well (`binding`), so that a cookie planted by somebody else links nothing. A
way is good once and for ten minutes; so is a `Proof`, which carries an account over the question "really this one?".
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from feedback_store.access.attempts import Attempts

Purpose = Literal["sign-in", "join", "link"]
GOOD_FOR_S = 600
MOST_CHARACTERS = 3000
"""Of a cookie: browsers drop one over 4 KB."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a browser went to a provider for."""

    provider: str
    purpose: Purpose
    nonce: str
    until: int
    back: str = "/dashboard"
    """Where to go on after signing in."""
    invitation: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That an account was proved from this browser, for one purpose."""

    provider: str
    subject: str
    purpose: Purpose
    nonce: str
    until: int


Kept = TypeVar("Kept", Flow, Proof)


class Flows:
    """Makes ways and proofs, and takes each once. `secret`: what this server alone knows; empty: known to nobody."""

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(b"ways to providers\x00" + (secret.encode() or secrets.token_bytes(32))).digest()
        self._clock = clock
        self._used = Attempts(GOOD_FOR_S)

    def begin(self, provider: str, purpose: Purpose, *, back: str = "/dashboard", invitation: str = "") -> Flow:
        """Return a new way."""
        return Flow(provider, purpose, secrets.token_urlsafe(24), self._until(), back[:1000], invitation[:100])

    def proof(self, provider: str, subject: str, purpose: Purpose) -> Proof:
        """Return a new proof."""
        return Proof(provider, subject, purpose, secrets.token_urlsafe(24), self._until())

    def state(self, flow: Flow, binding: str) -> str:
        """Return what the provider must hand back."""
        return self._mac("state", _text(flow), binding)

    def verifier(self, flow: Flow, binding: str) -> str:
        """Return PKCE's code verifier: 43 characters, as RFC 7636 wants."""
        return self._mac("verifier", _text(flow), binding)

    def take(self, text: str, state: str, binding_of: Callable[[Flow], str]) -> Flow | None:
        """Return the way of a cookie when `state` is its own, once; None: unknown, too old, another's or used."""
        flow = _read(text, Flow)
        if flow is None or not _same(state, self.state(flow, binding_of(flow))) or not self._is_first(flow):
            return None
        return flow

    def sealed(self, proof: Proof, binding: str) -> str:
        """Return a proof as a form's field."""
        text = _text(proof)
        return f"{text}.{self._mac('proof', text, binding)}"

    def opened(self, sealed: str, binding: str) -> Proof | None:
        """Return the proof of a form's field, once; None: not ours, of another session, too old or used."""
        text, _, mac = sealed.partition(".")
        proof = _read(text, Proof)
        if proof is None or not _same(mac, self._mac("proof", text, binding)) or not self._is_first(proof):
            return None
        return proof

    def _until(self) -> int:
        return int(self._clock()) + GOOD_FOR_S

    def _mac(self, kind: str, text: str, binding: str) -> str:
        return _base64(hmac.digest(self._key, "\x00".join((kind, text, binding)).encode(), "sha256"))

    def _is_first(self, kept: Flow | Proof) -> bool:
        """Say whether this is the first use, and in time; remember it. (Providers refuse a code's second use too.)"""
        key = ("used", kept.nonce)
        if self._clock() >= kept.until or self._used.wait_s({key: 1}):
            return False
        self._used.failed(key)
        return True


def cookie_text(flow: Flow) -> str:
    """Return a way as its cookie."""
    return _text(flow)


def _text(kept: Flow | Proof) -> str:
    return _base64(json.dumps(asdict(kept), separators=(",", ":")).encode())


def _read(text: str, kind: type[Kept]) -> Kept | None:
    """Return what a text of ours says; it is trusted only once its MAC was found right."""
    if not text or len(text) > MOST_CHARACTERS:
        return None
    try:
        values: Any = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        wanted = {one.name: one.type for one in fields(kind)}
        if not isinstance(values, dict) or values.keys() != wanted.keys():
            return None
        if not all(isinstance(values[name], int if wanted[name] is int else str) for name in wanted):
            return None
        found = kind(**values)
    except (ValueError, RecursionError):
        return None
    return found if _text(found) == text else None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
