"""One's own account: who one is, what one may do, a new password, and accounts elsewhere that sign one in."""

from starlette.responses import Response

from feedback_store.access import accounts, passwords, users
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.sign_in import in_words
from feedback_store.dashboard.visit import Visit
from feedback_store.errors import Refused
from feedback_store.pages.language import to_translate

routes = Routes()
CHANGED = routes.notice("password-changed", to_translate("Your password is changed. Please sign in with the new one."))


class PasswordForm(Form):
    """The password until now and the one from now on."""

    present: str = ""
    password: str = ""


@routes.on("GET /dashboard/account")
async def show_account(visit: Visit) -> Response:
    """Show who is signed in."""
    return await _page(visit)


@routes.on("POST /dashboard/account/password")
async def change_password(visit: Visit) -> Response:
    """Change one's password; every session of this person ends, this one too."""
    form = await visit.form(PasswordForm)
    key = ("password", visit.user.name)
    if visit.parts.attempts.wait_s({key: visit.parts.access.sign_in_failures}):
        return await _page(visit, 429, visit.say("Too many attempts. Please try again later."))
    visit.parts.attempts.failed(key)  # before it is looked at: many may come at once
    if not await passwords.is_password(form.present, visit.user.password_hash):
        return await _page(visit, 403, visit.say("The present password is not right."))
    visit.parts.attempts.taken_back(key)
    try:
        hashed = await passwords.hash_password(form.password, visit.user.name)
    except Refused as refused:
        return await _page(visit, 400, in_words(visit, refused))
    act = visit.act("user.password", f"user {visit.user.name}")
    await visit.write(act, users.set_password, visit.user.user_id, hashed)
    return visit.go("/dashboard/sign-in", done=CHANGED)


async def _page(visit: Visit, status: int = 200, problem: str = "") -> Response:
    linked = await visit.read(accounts.accounts_of, visit.user.user_id)
    return visit.render("account.html", status, problem=problem, linked=linked, providers=visit.parts.providers)
