"""The web chat: a page of ours at `/` that speaks the public `/v1` API from the browser, and nothing else.

Decisions: the server part is only files, so whatever the page can do, any client can do. The rater is a random 128-bit
number that the browser keeps and sends as `user` and `rater`; the server hashes it like every other name. History lives
in the browser (it works without consent) and is filled up from the server where the rater agreed to keeping text.
"""

from importlib import resources

from fastapi import FastAPI

from bot.web.settings import WebSettings
from feedback_store.pages import mount_page

__all__ = ["WebSettings", "mount_web_chat"]


def mount_web_chat(app: FastAPI, settings: WebSettings | None = None) -> None:
    """Serve the chat page at `/`. Call it once, after the API's routes are there."""
    settings = settings or WebSettings()
    config: dict[str, object] = {
        "title": settings.title,
        "compareShare": settings.compare_share,
        "examples": list(settings.examples),
    }
    mount_page(app, "/", "chat", resources.files(__name__), config)
