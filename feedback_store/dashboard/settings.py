"""Settings and keys, for admins: people and roles, API keys shown once, the log of acts, exports."""

import csv
import io
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from feedback_store import audit
from feedback_store.access import accounts, keys, users
from feedback_store.access.roles import ROLES, SCOPES
from feedback_store.connection import Connection
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.rendering import HEADERS
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit, own_url
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.exports import chunks_of, export_file
from feedback_store.pages.language import to_translate
from feedback_store.schema import now

routes = Routes()
CHANGED = routes.notice("user-changed", to_translate("It holds from their next click on."))
REVOKED = routes.notice("key-revoked", to_translate("The key opens nothing any more."))
MADE_OF = {
    "read": to_translate("look at everything but exports"),
    "rounds": to_translate("start and cancel rounds"),
    "versions": to_translate("promote, roll back, canary"),
    "export": to_translate("export feedback"),
    "import": to_translate("import feedback"),
    "people": to_translate("histories of people by their name on a platform"),
}
MOST_AUDIT_ROWS = 100_000


class NewUserForm(Form):
    """Who is invited."""

    name: str = ""
    role: Literal["user", "annotator", "operator", "admin"] = "operator"


class UserForm(Form):
    """What somebody may do from now on; `revision` is what the page showed."""

    role: Literal["user", "annotator", "operator", "admin"]
    disabled: bool = False
    revision: int


class AccountForm(Form):
    """An account elsewhere, by its provider's code and its number there."""

    provider: Literal["github", "discord"]
    subject: str = ""


class KeyForm(Form):
    """A key to be made."""

    name: str = ""
    scopes: tuple[str, ...] = ()
    days: int | None = Field(default=None, ge=1, le=3650)


class AuditFilter(Form):
    """Which lines of the log."""

    actor: str = Field(default="", max_length=80)
    action: str = Field(default="", max_length=64)
    before: int | None = Field(default=None, ge=1)
    file: Literal["", "csv"] = ""


class ExportForm(Form):
    """Which rows, in which file."""

    format: Literal["events", "unpaired", "preference", "sft"] = "events"
    file: Literal["jsonl", "parquet"] = "jsonl"


@routes.on("GET /dashboard/settings")
async def show_settings(visit: Visit) -> Response:
    """Show people, keys, and where to export."""
    return await _page(visit)


@routes.on("POST /dashboard/settings/users")
async def add_user(visit: Visit) -> Response:
    """Invite somebody: the link is shown once."""
    form = await visit.form(NewUserForm)
    name = form.name.casefold()
    try:
        users.check_name(name)
        act = visit.act("user.add", f"user {name}", details={"role": form.role})
        token = await visit.write(act, _add_and_invite, name, form.role)
    except Refused:
        problem = visit.say("The name needs 2 to 40 of a–z, 0–9, dot, - and _, and begins with a letter or digit.")
        return await _page(visit, status=400, problem=problem, typed=form.name)
    except Conflict:
        problem = visit.say("The name %(name)s is taken.", name=name)
        return await _page(visit, status=409, problem=problem, typed=form.name)
    return await _page(visit, invited=name, link=_link(visit, token))


@routes.on("POST /dashboard/settings/users/{user_id}")
async def change_user(visit: Visit) -> Response:
    """Change somebody's role, or shut them out."""
    user_id, form = visit.number("user_id"), await visit.form(UserForm)
    person = await visit.read(users.get_user, user_id)
    details = {"role": form.role, "disabled": form.disabled}
    act = visit.act("user.change", f"user {person.name}", details=details)
    try:
        await visit.write(
            act, users.change_user, user_id, role=form.role, disabled=form.disabled, expected_revision=form.revision
        )
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/settings")
    return visit.go("/dashboard/settings", done=CHANGED)


@routes.on("POST /dashboard/settings/users/{user_id}/invite")
async def invite_again(visit: Visit) -> Response:
    """Make a link with which somebody chooses a (new) password."""
    user_id = visit.number("user_id")
    person = await visit.read(users.get_user, user_id)
    token = await visit.write(visit.act("user.invite", f"user {person.name}"), users.invite, user_id)
    return await _page(visit, invited=person.name, link=_link(visit, token))


@routes.on("POST /dashboard/settings/users/{user_id}/link")
async def link_account(visit: Visit) -> Response:
    """Let an account elsewhere, named by its number there, sign in as somebody."""
    user_id, form = visit.number("user_id"), await visit.form(AccountForm)
    return await _change_account(visit, user_id, form, "account.link", accounts.link_account)


@routes.on("POST /dashboard/settings/users/{user_id}/unlink")
async def unlink_account(visit: Visit) -> Response:
    """Let an account elsewhere open nothing any more; its person is signed out everywhere."""
    user_id, form = visit.number("user_id"), await visit.form(AccountForm)
    return await _change_account(visit, user_id, form, "account.unlink", accounts.unlink_account)


@routes.on("POST /dashboard/settings/keys")
async def add_key(visit: Visit) -> Response:
    """Make a key: it is shown once."""
    form = await visit.form(KeyForm)
    if not form.name or len(form.name) > 64 or not form.scopes:
        problem = visit.say("A key needs a name (at most 64 characters) and at least one right.")
        return await _page(visit, status=400, key_problem=problem, key_name=form.name[:64])
    act = visit.act("key.add", form.name, details={"scopes": list(form.scopes), "days": form.days})
    made, text = await visit.write(act, keys.add_key, form.name, form.scopes, visit.user.name, days=form.days)
    return await _page(visit, new_key=made, key_text=text)


@routes.on("POST /dashboard/settings/keys/{key_id}/revoke")
async def revoke_key(visit: Visit) -> Response:
    """End a key for good."""
    key_id = visit.word("key_id")
    try:
        await visit.write(visit.act("key.revoke", f"key {key_id}"), keys.revoke_key, key_id)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/settings")
    return visit.go("/dashboard/settings", done=REVOKED)


@routes.on("GET /dashboard/settings/audit")
async def show_audit(visit: Visit) -> Response:
    """Show who did what, when and why; or the same as a file."""
    wanted = visit.query(AuditFilter)
    if wanted.file:
        found = await visit.read(audit.entries, limit=MOST_AUDIT_ROWS, actor=wanted.actor, action=wanted.action)
        headers = {**HEADERS, "content-disposition": 'attachment; filename="thumbwise-audit.csv"'}
        return Response(_csv(found), media_type="text/csv; charset=utf-8", headers=headers)
    found = await visit.read(audit.entries, limit=101, before=wanted.before, actor=wanted.actor, action=wanted.action)
    return visit.render("audit.html", entries_shown=found[:100], more=found[100:], wanted=wanted)


@routes.on("GET /dashboard/settings/export")
async def export(visit: Visit) -> Response:
    """Send feedback as a file, in trl's columns."""
    wanted = visit.query(ExportForm)
    await visit.write(visit.act("feedback.export", details={"format": wanted.format}), _nothing)
    written = await visit.read(export_file, wanted.format, wanted.file)
    name = f"thumbwise-{wanted.format}.{wanted.file}"
    media_type = "application/x-ndjson" if wanted.file == "jsonl" else "application/vnd.apache.parquet"
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks_of(written), media_type=media_type, headers=headers)


async def _page(visit: Visit, *, status: int = 200, **values: Any) -> Response:
    everything = {
        "problem": "", "typed": "", "invited": "", "link": "", "key_problem": "", "key_name": "", "new_key": None,
        "key_text": "",
    }  # fmt: skip
    return visit.render(
        "settings.html",
        status,
        people=await visit.read(users.list_users),
        linked=await visit.read(accounts.accounts_of),
        providers=visit.parts.providers,
        keys=await visit.read(keys.list_keys),
        roles=ROLES,
        scopes=[(scope, MADE_OF[scope]) for scope in SCOPES],
        at=now(),
        **(everything | values),
    )


async def _change_account(
    visit: Visit, user_id: int, form: AccountForm, action: str, change: Callable[[Connection, int, str, str], None]
) -> Response:
    person = await visit.read(users.get_user, user_id)
    act = visit.act(action, f"user {person.name}", details={"provider": form.provider, "account": form.subject[:20]})
    try:
        await visit.write(act, change, user_id, form.provider, form.subject)
    except (Conflict, NotFound) as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/settings")
    return visit.go("/dashboard/settings", done=CHANGED)


def _add_and_invite(connection: Connection, name: str, role: Any) -> str:
    return users.invite(connection, users.add_user(connection, name, role).user_id)


def _link(visit: Visit, token: str) -> str:
    return own_url(visit, f"/dashboard/join?invitation={token}")


def _nothing(connection: Connection) -> None:
    """An act that changes nothing but the log."""


def _csv(entries: list[audit.AuditEntry]) -> str:
    """The log as CSV. A cell that a spreadsheet would take for a formula gets a quote before it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("at", "actor", "action", "target", "reason", "details"))
    for entry in entries:
        cells = (entry.at.isoformat(), entry.actor, entry.action, entry.target, entry.reason, str(entry.details or ""))
        writer.writerow([inert(cell) for cell in cells])
    return text.getvalue()


def inert(cell: str) -> str:
    """Return a cell that no spreadsheet computes."""
    return f"'{cell}" if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")) else cell
