"""Signing in with an account at GitHub or Discord: there, back, and "really this one?" before anything is linked.

A provider only says whose account it is; who that is here, our own table says. So coming back with an account that
nobody linked opens nothing. Linking asks once more in a form of ours: somebody may be signed in at the provider as
somebody else than they think, and some providers send a browser straight back.
"""

import logging

from starlette.responses import Response

from feedback_store.access import accounts, users
from feedback_store.access.flows import GOOD_FOR_S, Flow, Proof, Purpose, cookie_text
from feedback_store.access.providers import ProvedAccount, Provider, ProviderFailed, account_of, consent_url
from feedback_store.audit import Act
from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.rendering import HEADERS
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.sign_in import address_of, begin, sign_in_page, too_many
from feedback_store.dashboard.visit import Forbidden, SignInNeeded, Visit, cookie_name, local_path, own_url
from feedback_store.errors import Conflict, NotFound
from feedback_store.pages.language import to_translate

routes = Routes()
log = logging.getLogger(__name__)
LINKED = routes.notice("account-linked", to_translate("From now on this account signs you in."))
UNLINKED = routes.notice("account-unlinked", to_translate("This account opens nothing here any more."))


class LinkForm(Form):
    """An account that was proved, to be linked."""

    proof: str


class JoinForm(Form):
    """An account that was proved, and the invitation that it takes up."""

    proof: str
    invitation: str = ""


class UnlinkForm(Form):
    """An account that shall open nothing any more."""

    provider: str
    subject: str


@routes.on("GET /dashboard/sign-in/{provider}")
async def go_there(visit: Visit) -> Response:
    """Send the browser to a provider: to sign in, or to take up an invitation."""
    provider = _provider(visit)
    invitation = visit.request.query_params.get("invitation", "")[:100]
    if visit.session is not None and not invitation:
        return visit.go("/dashboard")
    if invitation:
        await visit.read(users.invited, invitation)
    back = local_path(visit.request.query_params.get("next"), "/dashboard")
    return _send(visit, provider, "join" if invitation else "sign-in", back=back, invitation=invitation)


@routes.on("GET /dashboard/account/link/{provider}")
async def go_there_to_link(visit: Visit) -> Response:
    """Send somebody who is signed in to a provider, to link an account there."""
    return _send(visit, _provider(visit), "link")


@routes.on("GET /dashboard/sign-in/{provider}/back")
async def come_back(visit: Visit) -> Response:
    """Take a browser back from a provider: sign its person in, or ask whether to link the account."""
    provider = _provider(visit)
    key = ("elsewhere", address_of(visit))
    if wait_s := visit.parts.attempts.wait_s({key: 4 * visit.parts.access.sign_in_failures}):
        return too_many(visit, wait_s, "sign_in.html", name="", next="/dashboard")
    cookie, state = visit.request.cookies.get(_cookie(visit), ""), visit.request.query_params.get("state", "")
    flow = visit.parts.flows.take(cookie, state, lambda flow: _binding(visit, flow.purpose))
    if flow is None or flow.provider != provider.code:
        visit.parts.attempts.failed(key)
        words = visit.say(
            "This way was not begun in this browser just now, or it was used already. Please begin again."
        )
        answer = _stop(visit, flow, words, 403)
    else:
        try:
            account = await _proved(visit, provider, flow)
        except ProviderFailed as failed:
            visit.parts.attempts.failed(key)
            log.warning("sign-in elsewhere failed provider=%s reason=%s", provider.code, failed)
            answer = _stop(visit, flow, _in_words(visit, provider, failed), 502 if failed.away else 403)
        else:
            answer = await _go_on(visit, provider, flow, account)
    answer.delete_cookie(_cookie(visit), secure=visit.parts.access.behind_tls, httponly=True, samesite="lax")
    return answer


@routes.on("POST /dashboard/account/link")
async def link(visit: Visit) -> Response:
    """Link the account that was shown."""
    proof = _opened(visit, (await visit.form(LinkForm)).proof, "link", _binding(visit, "link"))
    act = visit.act("account.link", f"user {visit.user.name}", details=_named(proof))
    await visit.write(act, accounts.link_account, visit.user.user_id, proof.provider, proof.subject)
    return visit.go("/dashboard/account", done=LINKED)


@routes.on("POST /dashboard/account/unlink")
async def unlink(visit: Visit) -> Response:
    """Unlink an account of one's own; every other session of this person ends."""
    form, user = await visit.form(UnlinkForm), visit.user
    details = {"provider": form.provider[:16], "account": form.subject[:20]}
    act = visit.act("account.unlink", f"user {user.name}", details=details)
    token = visit.session.csrf_token if visit.session else ""
    try:
        await visit.write(act, accounts.unlink_account, user.user_id, form.provider, form.subject, by_owner=token)
    except Conflict as conflict:
        return visit.render("problem.html", 409, problem="conflict", message=str(conflict), back="/dashboard/account")
    return visit.go("/dashboard/account", done=UNLINKED)


@routes.on("POST /dashboard/join/account")
async def join(visit: Visit) -> Response:
    """Take an invitation up with the account that was shown, in place of a password."""
    form = await visit.form(JoinForm)
    proof = _opened(visit, form.proof, "join", form.invitation)
    person = await visit.read(users.invited, form.invitation)
    act = Act(f"user:{person.name}", "user.join", f"user {person.name}", details=_named(proof))
    user = await visit.write(act, accounts.join_with, form.invitation, proof.provider, proof.subject)
    return await begin(visit, user, "/dashboard", by=proof.provider)


def _provider(visit: Visit) -> Provider:
    found = visit.parts.providers.get(visit.word("provider"))
    if found is None:
        raise NotFound("nobody signs in here in this way")
    return found


def _send(
    visit: Visit, provider: Provider, purpose: Purpose, *, back: str = "/dashboard", invitation: str = ""
) -> Response:
    flows, binding = visit.parts.flows, _binding(visit, purpose)
    flow = flows.begin(provider.code, purpose, back=back, invitation=invitation)
    url = consent_url(
        provider,
        redirect_uri=_redirect_uri(visit, provider),
        state=flows.state(flow, binding),
        verifier=flows.verifier(flow, binding),
    )
    answer = Response(status_code=303, headers={**HEADERS, "location": url})
    answer.set_cookie(
        _cookie(visit),
        cookie_text(flow),
        max_age=GOOD_FOR_S,
        path="/",
        secure=visit.parts.access.behind_tls,
        httponly=True,
        samesite="lax",
    )
    return answer


async def _proved(visit: Visit, provider: Provider, flow: Flow) -> ProvedAccount:
    asked = visit.request.query_params
    if "code" not in asked:
        raise ProviderFailed(f"{provider.name} said {asked.get('error', 'nothing')[:60]!r}", away=False)
    return await account_of(
        provider,
        code=asked["code"][:512],
        redirect_uri=_redirect_uri(visit, provider),
        verifier=visit.parts.flows.verifier(flow, _binding(visit, flow.purpose)),
    )


async def _go_on(visit: Visit, provider: Provider, flow: Flow, account: ProvedAccount) -> Response:
    if flow.purpose == "sign-in":
        user = await visit.read(accounts.user_of, account.provider, account.subject)
        if user is None:
            visit.parts.attempts.failed(("elsewhere", address_of(visit)))
            log.info("sign-in elsewhere refused provider=%s reason=not linked", provider.code)
            return sign_in_page(visit, _not_linked(visit, provider, account), flow.back, status=403)
        return await begin(visit, user, flow.back, by=provider.code)
    binding = flow.invitation if flow.purpose == "join" else _binding(visit, flow.purpose)
    proof = visit.parts.flows.proof(account.provider, account.subject, flow.purpose)
    person = visit.user if flow.purpose == "link" else await visit.read(users.invited, flow.invitation)
    return visit.render(
        "link.html",
        provider=provider,
        account=account,
        person=person,
        invitation=flow.invitation,
        proof=visit.parts.flows.sealed(proof, binding),
    )


def _opened(visit: Visit, sealed: str, purpose: Purpose, binding: str) -> Proof:
    """Return what a form proves. Raises Forbidden for a form that is not ours, too old, or sent twice."""
    proof = visit.parts.flows.opened(sealed, binding)
    if proof is None or proof.purpose != purpose:
        raise Forbidden("csrf")
    return proof


def _binding(visit: Visit, purpose: Purpose) -> str:
    """To link an account is an act of a session: neither the way nor the proof fits another one."""
    if purpose != "link":
        return ""
    if visit.session is None:
        raise SignInNeeded
    return visit.session.csrf_token


def _stop(visit: Visit, flow: Flow | None, words: str, status: int) -> Response:
    if visit.session is not None:
        return visit.render("problem.html", status, problem="elsewhere", message=words, back="/dashboard/account")
    return sign_in_page(visit, words, flow.back if flow else "/dashboard", status=status)


def _in_words(visit: Visit, provider: Provider, failed: ProviderFailed) -> str:
    if failed.away:
        return visit.say("%(name)s did not answer as it should. Please try again later.", name=provider.name)
    return visit.say("%(name)s did not confirm who you are, so nothing was done.", name=provider.name)


def _not_linked(visit: Visit, provider: Provider, account: ProvedAccount) -> str:
    return visit.say(
        "Your %(name)s account (number %(number)s) is not linked to anybody here. Ask an admin for an invitation, or "
        "sign in with your password and link it on your account's page.",
        name=provider.name,
        number=account.subject,
    )


def _named(proof: Proof) -> dict[str, str]:
    return {"provider": proof.provider, "account": proof.subject}


def _redirect_uri(visit: Visit, provider: Provider) -> str:
    return own_url(visit, f"/dashboard/sign-in/{provider.code}/back")


def _cookie(visit: Visit) -> str:
    return f"{cookie_name(visit.parts)}-way"
