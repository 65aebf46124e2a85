"""The one table: which route may be used by whom. What is not in it does not start, and a test lists every route.

    anyone                               no sign-in: the chat, ratings, health, signing in itself
    user · annotator · operator · admin  a person signed in on the pages, with this role or a higher one
    key:SCOPE                            a program: the admin token, or an API key with this scope
    key:SCOPE or owner                   the same, or whoever knows the secret name of their own browser (web chat)

Pages take sessions and no keys, the API takes keys and no cookies: so no other site's page can make a browser act on
the API, and a leaked key opens no page.
"""

from feedback_store.access.roles import ROLES, SCOPES, Role, Scope

ANYONE = "anyone"

RULES: dict[str, str] = {
    # The API: chat and rating.
    "POST /v1/chat/completions": ANYONE,
    "POST /v1/feedback": ANYONE,
    "GET /v1/consent": ANYONE,
    "POST /v1/consent": ANYONE,
    "GET /v1/models": ANYONE,
    "GET /v1/models/{model}": ANYONE,
    "GET /v1/conversations": "key:people or owner",
    "GET /v1/conversations/{conversation_id}": "key:people or owner",
    "GET /v1/raters/export": "key:people or owner",
    "POST /v1/raters/erase": "key:people or owner",
    # The API: the admin's.
    "GET /v1/status": "key:read",
    "GET /v1/readiness": "key:read",
    "GET /v1/replies": "key:read",
    "GET /v1/replies/{reply_id}": "key:read",
    "GET /v1/feedback/recent": "key:read",
    "GET /v1/rounds": "key:read",
    "GET /v1/rounds/{round_id}": "key:read",
    "GET /v1/rounds/{round_id}/metrics": "key:read",
    "POST /v1/rounds": "key:rounds",
    "POST /v1/rounds/{round_id}/cancel": "key:rounds",
    "GET /v1/versions": "key:read",
    "GET /v1/versions/{version}": "key:read",
    "GET /v1/deployments": "key:read",
    "POST /v1/versions/{version}/promote": "key:versions",
    "POST /v1/versions/{version}/canary": "key:versions",
    "POST /v1/rollback": "key:versions",
    "POST /v1/canary/stop": "key:versions",
    "GET /v1/canary": "key:read",
    "GET /v1/versions/{version}/lineage": "key:read",
    "GET /v1/feedback/{feedback_id}/versions": "key:read",
    "GET /v1/versions/{version}/side-by-sides": "key:read",
    "GET /v1/versions/{version}/side-by-sides/result": "key:read",
    "POST /v1/versions/{version}/side-by-sides": "key:versions",
    "POST /v1/versions/{version}/veto": "key:versions",
    "DELETE /v1/versions/{version}/veto": "key:versions",
    "GET /v1/erasures/{erasure_id}": "key:people",
    "POST /v1/erasures/{erasure_id}/retire": "key:versions",
    "GET /v1/trust": "key:read",
    "GET /v1/quarantines": "key:read",
    "POST /v1/quarantines": "key:people",
    "POST /v1/quarantines/{quarantine_id}": "key:people",
    "GET /v1/export": "key:export",
    "POST /v1/import": "key:import",
    "POST /v1/candidates": "key:import",
    "GET /v1/candidates/prompts": "key:read",
    # Is it alive? What can it do?
    "GET /healthz": ANYONE,
    "GET /readyz": ANYONE,
    "GET /metrics": ANYONE,
    "GET /openapi.json": ANYONE,
    # Pages: the chat, and the files of pages (which hold no data).
    "GET /": ANYONE,
    "GET /assets/{bundle}/{file}": ANYONE,
    "POST /language": ANYONE,
    # Pages: signing in and out.
    "GET /dashboard": ANYONE,
    "GET /dashboard/{path:path}": ANYONE,  # "this is not here", as a page
    "GET /dashboard/sign-in": ANYONE,
    "POST /dashboard/sign-in": ANYONE,
    "GET /dashboard/set-up": ANYONE,
    "POST /dashboard/set-up": ANYONE,
    "GET /dashboard/join": ANYONE,
    "POST /dashboard/join": ANYONE,
    # Signing in with an account at GitHub or Discord: it opens what somebody signed in or invited has linked.
    "GET /dashboard/sign-in/{provider}": ANYONE,
    "GET /dashboard/sign-in/{provider}/back": ANYONE,
    "POST /dashboard/join/account": ANYONE,
    "GET /dashboard/account/link/{provider}": "user",
    "POST /dashboard/account/link": "user",
    "POST /dashboard/account/unlink": "user",
    "POST /dashboard/sign-out": "user",
    "GET /dashboard/account": "user",
    "POST /dashboard/account/password": "user",
    # Pages: the dashboard.
    "GET /dashboard/live/{topic}": "annotator",
    "GET /dashboard/overview": "operator",
    "GET /dashboard/inbox": "operator",
    "GET /dashboard/inbox/{reply_id}": "operator",
    "POST /dashboard/inbox/act": "operator",
    "POST /dashboard/inbox/undo": "operator",
    "POST /dashboard/inbox/views": "operator",
    "POST /dashboard/inbox/views/{view_id}/delete": "operator",
    "POST /dashboard/inbox/{reply_id}/correct": "operator",
    "POST /dashboard/inbox/{reply_id}/note": "operator",
    "GET /dashboard/annotate": "annotator",
    "POST /dashboard/annotate/next": "annotator",
    "POST /dashboard/annotate/back": "annotator",
    "GET /dashboard/annotate/labels/{label_id}": "annotator",
    "POST /dashboard/annotate/labels/{label_id}": "annotator",
    "POST /dashboard/annotate/queues": "operator",
    "POST /dashboard/annotate/labels/{label_id}/gold": "operator",
    "GET /dashboard/rounds": "operator",
    "POST /dashboard/rounds": "operator",
    "GET /dashboard/rounds/new": "operator",
    "GET /dashboard/rounds/compare": "operator",
    "GET /dashboard/rounds/{round_id}": "operator",
    "POST /dashboard/rounds/{round_id}/cancel": "operator",
    "GET /dashboard/versions": "operator",
    "GET /dashboard/versions/{version}": "operator",
    "GET /dashboard/versions/{version}/side-by-sides": "operator",
    "POST /dashboard/versions/{version}/side-by-sides": "operator",
    "POST /dashboard/versions/{version}/veto": "operator",
    "POST /dashboard/versions/{version}/lift-veto": "operator",
    "POST /dashboard/versions/{version}/promote": "operator",
    "POST /dashboard/versions/{version}/canary": "operator",
    "POST /dashboard/versions/canary/stop": "operator",
    "POST /dashboard/versions/roll-back": "operator",
    "GET /dashboard/people": "operator",
    "GET /dashboard/people/{rater_id}": "operator",
    "POST /dashboard/people/{rater_id}/quarantine": "operator",
    "GET /dashboard/people/erase": "operator",
    "GET /dashboard/people/erased/{audit_id}": "operator",
    "POST /dashboard/people/erased/{audit_id}/retire": "operator",
    "GET /dashboard/people/{rater_id}/erase": "operator",
    "POST /dashboard/people/{rater_id}/erase": "operator",
    "GET /dashboard/settings": "admin",
    "POST /dashboard/settings/users": "admin",
    "POST /dashboard/settings/users/{user_id}": "admin",
    "POST /dashboard/settings/users/{user_id}/invite": "admin",
    "POST /dashboard/settings/users/{user_id}/link": "admin",
    "POST /dashboard/settings/users/{user_id}/unlink": "admin",
    "POST /dashboard/settings/keys": "admin",
    "POST /dashboard/settings/keys/{key_id}/revoke": "admin",
    "GET /dashboard/settings/audit": "admin",
    "GET /dashboard/settings/export": "admin",
}
"""`METHOD PATH` (the route's template) → who."""


def rule_of(route: str) -> str:
    """Return who may use `METHOD PATH`. Raises LookupError for a route that nobody declared: it must not start."""
    try:
        return RULES[route]
    except KeyError:
        raise LookupError(
            f"the route {route!r} is not in feedback_store/access/rules.py; say there who may use it"
        ) from None


def role_of(route: str) -> Role | None:
    """Return the least role for a page's route; None: anyone. Raises LookupError where the rule names no role."""
    rule = rule_of(route)
    if rule == ANYONE:
        return None
    for role in ROLES:
        if rule == role:
            return role
    raise LookupError(f"the route {route!r} is for {rule!r}; wanted: a page's route, with a role")


def scope_of(route: str) -> Scope:
    """Return the scope that a key needs for a route of the API. Raises LookupError where the rule names none."""
    rule = rule_of(route).removesuffix(" or owner")
    for scope in SCOPES:
        if rule == f"key:{scope}":
            return scope
    raise LookupError(f"the route {route!r} is for {rule!r}; wanted: a route of the API, with a scope")
