"""One request to a page: who asks, in which language, what they sent, and how to answer."""

import hmac
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from feedback_store.access.roles import Role, reaches
from feedback_store.access.sessions import Session, find_session
from feedback_store.access.users import User
from feedback_store.audit import Act, audited
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import CSRF_FIELD, LARGEST_NUMBER, Form, checked, parse_form, read_fields
from feedback_store.dashboard.parts import DashboardParts
from feedback_store.dashboard.rendering import Pages
from feedback_store.errors import NotFound
from feedback_store.pages.language import COOKIE as LANGUAGE_COOKIE
from feedback_store.pages.language import Language, choose, translated

P = ParamSpec("P")
T = TypeVar("T")
Model = TypeVar("Model", bound=Form)


class SignInNeeded(Exception):
    """Nobody is signed in here (any more)."""


class Forbidden(Exception):
    """This person may not do this. The message says what is needed."""


@dataclass(slots=True)
class Visit:
    """A request with its person. Built by `mount.py` for every route of the dashboard."""

    request: Request
    parts: DashboardParts
    pages: Pages
    session: Session | None
    language: Language
    guarded: bool = True
    """False for routes that anyone may use: they act for nobody, so their forms need no token of a session."""
    is_behind: bool = False
    """Whether a figure of this page is being worked out anew behind it."""
    _fields: list[tuple[str, str]] | None = field(default=None, repr=False)

    @classmethod
    async def of(cls, request: Request, parts: DashboardParts, pages: Pages) -> "Visit":
        """Look at the cookies, and find whose session it is."""
        token = request.cookies.get(cookie_name(parts))
        session = await parts.store.read_async(find_session, token) if token else None
        language = choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
        return cls(request, parts, pages, session, language)

    @property
    def user(self) -> User:
        """Who is signed in. Raises SignInNeeded."""
        if self.session is None:
            raise SignInNeeded
        return self.session.user

    @property
    def actor(self) -> str:
        """The name of this person in logs of acts."""
        return f"user:{self.user.name}"

    def may(self, role: Role) -> bool:
        """Say whether this person's role reaches `role`."""
        return self.session is not None and reaches(self.session.user.role, role)

    def require(self, role: Role | None) -> None:
        """Raise SignInNeeded or Forbidden unless this person may use a route for `role`."""
        if role is not None and not self.may(role):
            raise Forbidden(f"{role}") if self.session is not None else SignInNeeded

    def number(self, name: str) -> int:
        """Return a number of the path. Raises NotFound for anything else: such a page is not there."""
        text = str(self.request.path_params[name])
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= LARGEST_NUMBER):
            raise NotFound("no such page")
        return int(text)

    def word(self, name: str) -> str:
        """Return a word of the path, of 1 to 64 letters a-z, digits and -. Raises NotFound for anything else."""
        text = str(self.request.path_params[name])
        if not (0 < len(text) <= 64 and text.isascii() and text.replace("-", "a").isalnum() and text == text.lower()):
            raise NotFound("no such page")
        return text

    def query(self, model: type[Model]) -> Model:
        """Return the address's parameters as `model`, `done` left out. Raises Refused naming the first bad one."""
        found = [(name, value) for name, value in self.request.query_params.multi_items() if name != "done"]
        return parse_form(found, model)

    async def fields(self) -> list[tuple[str, str]]:
        """Return the form's fields, once its token was found right. Raises Forbidden, Refused."""
        if self._fields is None:
            found = await read_fields(self.request)
            given = next((value for name, value in found if name == CSRF_FIELD), "")
            if self.guarded and not hmac.compare_digest(self._token().encode(), given.encode()):
                raise Forbidden("csrf")
            self._fields = found
        return self._fields

    def _token(self) -> str:
        return self.session.csrf_token if self.session is not None else ""

    async def form(self, model: type[Model]) -> Model:
        """Return what was sent, as `model`. Raises Refused naming the first bad field, Forbidden."""
        return parse_form(await self.fields(), model)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query of the store in a worker thread."""
        return await self.parts.store.read_async(fn, *args, **kwargs)

    async def soon(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T | None:
        """Return figures that cost a look at many rows, as they were some seconds ago; None while they are being worked
        out for the first time: the page shows `counting_now()` in their place, and looks again. So does a page whose
        figures are worked out anew behind it (`is_behind`)."""
        self.is_behind = self.is_behind or self.pages.memory.is_behind(key)
        return await self.pages.memory.soon(key, work, patience_s=self.parts.patience_s)

    async def write(
        self, act: Act, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a write of the store and log the act, both or neither."""
        return await self.parts.store.write_async(audited, act, fn, *args, **kwargs)

    def act(self, action: str, target: str = "", reason: str = "", *, details: Mapping[str, Any] | None = None) -> Act:
        """Describe what this person is about to do, for `write`."""
        return Act(self.actor, action, target, reason, dict(details or {}))

    def say(self, text: str, **values: Any) -> str:
        """Translate a text of ours into the reader's language."""
        return translated(self.language, text, **values)

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Answer with a page. Every template sees `visit` and what `values` names."""
        return self.pages.render(self, template, status, values)

    def go(self, path: str, *, done: str | None = None, **query: Any) -> Response:
        """Answer an act with a page to look at next; `done` is the code of a notice shown there once."""
        parameters = {name: value for name, value in query.items() if value is not None}
        if done is not None:
            parameters["done"] = done
        where = f"{path}?{urlencode(parameters)}" if parameters else path
        return RedirectResponse(where, 303, headers=dict(self.pages.headers))


def cookie_name(parts: DashboardParts) -> str:
    """Return the name of the session's cookie. Two servers on one host differ by port, which cookies do not look at."""
    if parts.access.behind_tls:
        return "__Host-thumbwise"
    return f"thumbwise-{hmac.new(b'cookie', parts.admin_token.encode(), 'sha256').hexdigest()[:8]}"


def own_url(visit: Visit, path: str) -> str:
    """Return the address under which this browser reaches `path` here, to be passed on."""
    scheme = "https" if visit.parts.access.behind_tls else visit.request.url.scheme
    return f"{scheme}://{visit.request.headers.get('host', '')}{path}"


def local_path(text: str | None, otherwise: str) -> str:
    """Return `text` when it is a path of this server to come back to, never another site's address."""
    if text and text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and len(text) < 2000:
        return quote(text, safe="/?&=%+-._~,:;@!$'()*")
    return otherwise


__all__ = ["Forbidden", "SignInNeeded", "Visit", "checked", "cookie_name", "local_path", "own_url"]
