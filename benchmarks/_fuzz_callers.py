"""Who knocks in benchmarks/api_fuzz.py, what each of them may, and whether they were let in by right.

The rules are feedback_store/access/rules.py, read here as a judge beside schemathesis: it looks at each answer's shape,
this at whether the caller should have got one at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from feedback_store.access.keys import add_key
from feedback_store.access.roles import SCOPES
from feedback_store.access.rules import RULES
from feedback_store.store import Store

NO_KEY, ADMIN, STRANGER = "no key", "the admin token", "a key that was never given"
CLOSED = (401, 403)


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` in the table, the bearer token that is sent (None: no header), and the scopes that it opens."""

    name: str
    token: str | None
    scopes: frozenset[str] = frozenset()

    @property
    def headers(self) -> dict[str, str]:
        """What each of their requests carries."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def callers_of(store: Store, admin_token: str) -> list[Caller]:
    """Make a key of every scope. The admin comes first: what the others are asked about is then no longer new."""
    keyed = [
        Caller(f"a key for {scope}", store.write(add_key, scope, (scope,), "fuzz")[1], frozenset({scope}))
        for scope in SCOPES
    ]
    stranger = Caller(STRANGER, f"tw-{'0' * 12}_{'A' * 43}")
    return [Caller(ADMIN, admin_token, frozenset(SCOPES)), Caller(NO_KEY, None), stranger, *keyed]


def wrongly_answered(route: str, status: int, sent: Mapping[str, str], callers: Mapping[str | None, Caller]) -> str:
    """Say what is wrong with answering `METHOD PATH` with this status to whoever sent these headers; "": nothing.

    A route that its owner may use too is judged for keys alone where the owner's secret decides: there a 401 or 403 is
    right or wrong by the body, which is not read here.
    """
    rule = RULES.get(route, "")
    if not rule.startswith("key:") or rule.endswith("or owner"):
        return ""
    header = next((value for name, value in sent.items() if name.lower() == "authorization"), None)
    caller = callers.get(header)
    may = caller is not None and rule.removeprefix("key:") in caller.scopes
    if may and status in CLOSED:
        return "refused with the right"
    if not may and status not in CLOSED:
        return "let in without the right"
    return ""
