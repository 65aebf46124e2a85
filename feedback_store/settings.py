"""Settings of the store, of privacy and of access: sections [store], [privacy] and [access] of thumbwise.toml."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _is_private_way(url: str) -> str:
    """A client's secret goes there: by https, or to this very machine."""
    if urlsplit(url).scheme != "https" and urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("an address that begins with https://")
    return url


ProviderUrl = Annotated[str, Field(pattern=r"^https?://[^\s?#@]*[^\s?#@/]$"), AfterValidator(_is_private_way)]


class StoreSettings(BaseModel):
    """[store]"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """SQLAlchemy URL. None: SQLite at DATA/thumbwise.db. `postgresql://…` for PostgreSQL."""
    upgrade: Literal["at_start", "by_hand"] = "at_start"
    """Who brings an older database to this program's schema: "at_start", whichever part opens it first; "by_hand",
    `thumbwise migrate`, and every part refuses to start until then."""
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
    rewrite_mib: int = Field(default=256, ge=0, le=1_000_000)
    """After an erasure a database file (SQLite) or table (PostgreSQL) of up to this many MiB is written anew, so that
    nothing is left in freed pages; writes wait meanwhile. A larger one is cleaned in place, where the odd fragment may
    stay until it is written over. 0: none is written anew."""


class RetentionSettings(BaseModel):
    """[retention]: what is deleted after a time, by the trainer's process, once a day. Days that are not set: never."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(default="04:30", pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$")
    """When, in the time zone of `rounds.timezone`; a day on which nothing ran is made up for. Empty: only by
    `thumbwise retention`."""
    unrated_text_days: int | None = Field(default=None, ge=1)
    """Prompts and replies that nobody rated lose their words, and whose they were, after this many days. The rows stay
    for what counts them: version, tokens, times."""
    rated_text_days: int | None = Field(default=None, ge=1)
    """Rated ones lose their words, with the corrections, reasons and notes on them, this many days after the last thing
    that was said of them. The votes stay; rounds can learn from them no more."""
    keep_trained: bool = True
    """Leave rated texts alone while a version in service (live, canary, the one that a rollback would bring back, and
    all they descend from) learnt from them. False: they go like others, and the report names those versions."""
    ended_key_days: int | None = Field(default=None, ge=1)
    """API keys leave the list this many days after they were revoked or ran out."""
    audit_days: int | None = Field(default=None, ge=1)
    """Lines of the log of acts are deleted after this many days."""
    log_days: int | None = Field(default=90, ge=1)
    """Older files in DATA/logs (`….log.1` and so on) are deleted after this many days; their size is bounded anyway."""


class TrustSettings(BaseModel):
    """[trust]: which signals take feedback into quarantine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quarantine: bool = True
    """Take what a signal finds into quarantine by itself before a round. False: only report it."""
    flood_votes: int = Field(default=200, ge=2)
    """A rater who gives more acts than this within `flood_hours` is a flood: one reads and judges about one in 20 s."""
    flood_hours: float = Field(default=1.0, gt=0)
    """Length of that window, in hours."""
    ring_shared: int = Field(default=8, ge=2)
    """Fewest targets that two raters must have judged both to be held against each other."""
    ring_overlap: float = Field(default=0.5, gt=0, le=1)
    """Least part of the smaller one's targets that they must share."""
    phrase_replies: int = Field(default=5, ge=2)
    """A phrase must stand in this many up-voted replies whose prompts hold it too …"""
    phrase_backers: int = Field(default=10, ge=1)
    """… of fewer raters than this."""
    phrase_each: int = Field(default=3, ge=1)
    """… each of whom up-voted it this many times at least …"""
    phrase_share: float = Field(default=0.3, gt=0, le=1)
    """… and in this share, at least, of all that they up-voted."""
    profile_votes: int = Field(default=20, ge=2)
    """Votes shared with others from which a rater's own reliability is shown."""


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


class GithubSignInSettings(BaseModel):
    """[sign_in.github]: signing in on the dashboard with a GitHub account that an admin invited or linked. Off while
    `client_id` is not set; its other half is THUMBWISE_GITHUB_CLIENT_SECRET. How: docs/dashboard.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,128}$")
    """The id of your OAuth app. None: nobody signs in this way, and GitHub is never asked."""
    url: ProviderUrl = "https://github.com"
    """Where people agree; of your own GitHub Enterprise server, if you run one."""
    api_url: ProviderUrl = "https://api.github.com"
    """Where the account's number is asked for; on a GitHub Enterprise server `https://HOST/api/v3`."""


class DiscordSignInSettings(BaseModel):
    """[sign_in.discord]: signing in on the dashboard with a Discord account that an admin invited or linked. Off while
    `client_id` is not set; its other half is THUMBWISE_DISCORD_CLIENT_SECRET. How: docs/dashboard.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str | None = Field(default=None, pattern=r"^[0-9]{1,20}$")
    """The id of your application. None: nobody signs in this way, and Discord is never asked."""
    url: ProviderUrl = "https://discord.com"
    """Where people agree, and where the account's number is asked for."""
