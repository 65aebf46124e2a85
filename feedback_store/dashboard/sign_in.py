"""Signing in and out, the first set-up, and taking up an invitation.

Whoever holds the admin token may set up: it is the key of the machine's owner, who can do all by the API anyway. So the
page stays open after the first admin was made, for a forgotten password; guesses at it are limited like passwords.
"""

import hmac

from starlette.responses import Response

from feedback_store import audit
from feedback_store.access import passwords, sessions, users
from feedback_store.access.users import User
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit, cookie_name, local_path
from feedback_store.errors import NotFound, Refused
from feedback_store.pages.language import to_translate

routes = Routes()
WELCOME = routes.notice("welcome", to_translate("You are signed in. From here you see the whole loop at a glance."))
SIGNED_OUT = routes.notice("signed-out", to_translate("You are signed out."))


class SignInForm(Form):
    """A name and a password. `next`: where to go on."""

    name: str = ""
    password: str = ""
    next: str = "/dashboard"


class SetUpForm(Form):
    """The admin token, and who becomes admin."""

    token: str = ""
    name: str = ""
    password: str = ""


class JoinForm(Form):
    """An invitation, and the password that was chosen."""

    invitation: str = ""
    password: str = ""


@routes.on("GET /dashboard/sign-in")
async def show_sign_in(visit: Visit) -> Response:
    """Ask for name and password."""
    if visit.session is not None:
        return visit.go("/dashboard")
    if not await visit.read(users.is_set_up):
        return visit.go("/dashboard/set-up")
    return sign_in_page(visit, "", local_path(visit.request.query_params.get("next"), "/dashboard"))


@routes.on("POST /dashboard/sign-in")
async def sign_in(visit: Visit) -> Response:
    """Begin a session. The answer to a wrong name and to a wrong password is the same, in words and in time."""
    form = await visit.form(SignInForm)
    name, back = form.name.casefold(), local_path(form.next, "/dashboard")
    failures = visit.parts.access.sign_in_failures
    address = address_of(visit)
    keys = (("person", f"{name}@{address}"), ("address", address), ("name", name))
    limits = dict(zip(keys, (failures, 4 * failures, 20 * failures), strict=True))
    if wait_s := visit.parts.attempts.wait_s(limits):
        return too_many(visit, wait_s, "sign_in.html", name=name, next=back)
    # Counted before it is looked at: of many that come at once each would otherwise find that none has failed yet.
    visit.parts.attempts.failed(*keys)
    try:
        user = await visit.read(users.by_name, name)
        right = await passwords.is_password(form.password, user.password_hash if user and not user.disabled else None)
    except BaseException:
        visit.parts.attempts.taken_back(*keys)
        raise
    if user is None or not right:
        wrong = visit.say("This name and password do not belong together.")
        return sign_in_page(visit, wrong, back, status=401, name=form.name)
    visit.parts.attempts.forget(keys[0])
    visit.parts.attempts.taken_back(*keys[1:])
    return await begin(visit, user, back)


@routes.on("POST /dashboard/sign-out")
async def sign_out(visit: Visit) -> Response:
    """End the session, on the server too."""
    token = visit.request.cookies.get(cookie_name(visit.parts), "")
    await visit.write(visit.act("session.end"), sessions.end_session, token)
    answer = visit.go("/dashboard/sign-in", done=SIGNED_OUT)
    answer.delete_cookie(cookie_name(visit.parts), secure=visit.parts.access.behind_tls, httponly=True, samesite="lax")
    return answer


@routes.on("GET /dashboard/set-up")
async def show_set_up(visit: Visit) -> Response:
    """Ask for the admin token, a name and a password."""
    return visit.render("set_up.html", problem="", name="", first=not await visit.read(users.is_set_up))


@routes.on("POST /dashboard/set-up")
async def set_up(visit: Visit) -> Response:
    """Make the admin, and sign them in."""
    form = await visit.form(SetUpForm)
    name, address = form.name.casefold(), address_of(visit)
    first = not await visit.read(users.is_set_up)
    key = ("set-up", address)
    if wait_s := visit.parts.attempts.wait_s({key: visit.parts.access.sign_in_failures}):
        return too_many(visit, wait_s, "set_up.html", name=name, first=first)
    if not _is_admin_token(visit, form.token):
        visit.parts.attempts.failed(key)
        wrong = visit.say("This is not the admin token.")
        return visit.render("set_up.html", 403, problem=wrong, name=form.name, first=first)
    try:
        users.check_name(name)
        hashed = await passwords.hash_password(form.password, name)
    except Refused as refused:
        return visit.render("set_up.html", 400, problem=in_words(visit, refused), name=form.name, first=first)
    act = audit.Act("token", "user.set_up", f"user {name}")
    user = await visit.write(act, users.set_up_admin, name, hashed)
    return await begin(visit, user, "/dashboard")


@routes.on("GET /dashboard/join")
async def show_join(visit: Visit) -> Response:
    """Welcome somebody who was invited, and ask for a password."""
    token = visit.request.query_params.get("invitation", "")[:100]
    user = await visit.read(users.invited, token)
    return visit.render("join.html", problem="", invitation=token, person=user)


@routes.on("POST /dashboard/join")
async def join(visit: Visit) -> Response:
    """Take the invitation up: once."""
    form = await visit.form(JoinForm)
    key = ("join", address_of(visit))
    if visit.parts.attempts.wait_s({key: 4 * visit.parts.access.sign_in_failures}):
        raise NotFound("too many invitations that are not valid were tried from here; come back later")
    try:
        person = await visit.read(users.invited, form.invitation)
    except NotFound:
        visit.parts.attempts.failed(key)
        raise
    try:
        hashed = await passwords.hash_password(form.password, person.name)
    except Refused as refused:
        problem = in_words(visit, refused)
        return visit.render("join.html", 400, problem=problem, invitation=form.invitation, person=person)
    act = audit.Act(f"user:{person.name}", "user.join", f"user {person.name}")
    user = await visit.write(act, users.accept_invitation, form.invitation, hashed)
    return await begin(visit, user, "/dashboard")


async def begin(visit: Visit, user: User, back: str, *, by: str = "password") -> Response:
    """Sign somebody in who has shown who they are, `by` a password or a provider, and lead them on."""
    details = {} if by == "password" else {"by": by}
    act = audit.Act(f"user:{user.name}", "session.begin", details=details)
    token = await visit.write(act, sessions.begin_session, user.user_id, visit.parts.access.session_hours)
    answer = visit.go(back, done=WELCOME if back == "/dashboard" else None)
    answer.set_cookie(
        cookie_name(visit.parts),
        token,
        max_age=int(visit.parts.access.session_hours * 3600),
        path="/",
        secure=visit.parts.access.behind_tls,
        httponly=True,
        samesite="lax",
    )
    return answer


def sign_in_page(visit: Visit, problem: str, back: str, *, status: int = 200, name: str = "") -> Response:
    """Ask for a name and a password, or for an account elsewhere."""
    return visit.render("sign_in.html", status, problem=problem, name=name, next=back)


def too_many(visit: Visit, wait_s: float, template: str, **values: object) -> Response:
    """Say for how long nobody is listened to here."""
    minutes = max(1, round(wait_s / 60))
    problem = visit.say("Too many attempts. Please wait %(minutes)s min, then try again.", minutes=minutes)
    answer = visit.render(template, 429, problem=problem, **values)
    answer.headers["retry-after"] = str(int(wait_s) + 1)
    return answer


def _is_admin_token(visit: Visit, found: str) -> bool:
    wanted = visit.parts.admin_token
    return bool(wanted) and hmac.compare_digest(wanted.encode(), found.encode())


def in_words(visit: Visit, refused: Refused) -> str:
    """The refusal of a name or a password in the reader's language."""
    if refused.field == "name":
        return visit.say("The name needs 2 to 40 of a–z, 0–9, dot, - and _, and begins with a letter or digit.")
    if "easily" in str(refused):
        return visit.say("This password is easily guessed. Take four random words, for example.")
    least = passwords.LEAST_CHARACTERS
    return visit.say("The password needs at least %(least)s characters (and at most 256).", least=least)


def address_of(visit: Visit) -> str:
    """Return where a request came from, for counting what failed."""
    return visit.request.client.host if visit.request.client else "?"
