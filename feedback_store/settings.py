"""Settings of the store, of privacy and of access: sections [store], [privacy] and [access] of thumbwise.toml."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StoreSettings(BaseModel):
    """[store]"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """SQLAlchemy URL. None: SQLite at DATA/thumbwise.db. `postgresql://…` for PostgreSQL."""
    group_commit_max: int = Field(default=512, ge=1, le=10_000)
    """Most writes in one commit. 1 is a commit per request (the slow way; kept for the benchmark)."""
    busy_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long a locked database is waited for before a write is refused (503, Retry-After)."""


class PrivacySettings(BaseModel):
    """[privacy]"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    consent_version: int = Field(default=1, ge=1)
    """Raise it when the consent text changes: older consents then no longer count."""
    api_consent: Literal["host", "rater"] = "host"
    """Who vouches for callers of the bare API (channel "api"): "host", the calling program, so text is kept unless the
    rater declined; "rater": text is kept only after POST /v1/consent. Web, Telegram and Discord always ask the rater.
    """


class AccessSettings(BaseModel):
    """[access]: who may sign in on the dashboard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    behind_tls: bool = False
    """True where people reach the server by https (a proxy in front ends TLS): the session's cookie is then sent over
    https alone, under a name (`__Host-…`) that no other host can set."""
    session_hours: float = Field(default=168.0, gt=0, le=8760)
    """How long a sign-in lasts. Signing out, disabling somebody and changing a password end it at once."""
    sign_in_failures: int = Field(default=5, ge=1, le=1000)
    """Wrong passwords of one person from one address within 15 minutes, before both have to wait; an address alone has
    four times as many, a person from everywhere twenty times."""
