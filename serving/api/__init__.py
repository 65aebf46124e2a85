"""The HTTP API: OpenAI's chat routes, ratings, consent, and the admin's routes. No torch and no sqlalchemy in here."""

from serving.api.app import create_app
from serving.api.context import ApiContext

__all__ = ["ApiContext", "create_app"]
