"""Choosing a language: a cookie, for the pages and the web chat alike."""

from typing import Literal

from starlette.responses import RedirectResponse, Response

from feedback_store.dashboard.forms import Form
from feedback_store.dashboard.rendering import HEADERS
from feedback_store.dashboard.routes import Routes
from feedback_store.dashboard.visit import Visit, local_path
from feedback_store.pages.language import COOKIE

routes = Routes()
A_YEAR_S = 365 * 86_400


class LanguageForm(Form):
    """Which language, and where to go on."""

    language: Literal["en", "zh-Hans"]
    back: str = "/"


@routes.on("POST /language")
async def choose_language(visit: Visit) -> Response:
    """Remember the language of this browser. It changes nothing of anybody's, so it needs no sign-in."""
    wish = await visit.form(LanguageForm)
    answer = RedirectResponse(local_path(wish.back, "/"), 303, headers=dict(HEADERS))
    secure = visit.parts.access.behind_tls
    answer.set_cookie(COOKIE, wish.language, max_age=A_YEAR_S, samesite="lax", secure=secure, httponly=True)
    return answer
