"""Settings of the bots: sections [telegram] and [discord] of thumbwise.toml. Tokens come from the environment alone."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


def _known_language(language: str | None) -> str | None:
    from thumbwise.rating.texts import languages, texts_for  # reads the catalogues: not at every start

    if language is None:
        return None
    if texts_for(language).language == "en" and not language.lower().startswith("en"):
        known = ", ".join(languages())
        raise ValueError(f"notice_language is {language!r}, wanted one that the bots speak: {known}")
    return language


class TelegramSettings(BaseModel):
    """[telegram]: the bot that `thumbwise bot telegram` runs. Its token is THUMBWISE_TELEGRAM_TOKEN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    admin_ids: tuple[int, ...] = ()
    """Telegram user ids that may use /align, /versions, /promote and /rollback. Nobody, unless named here."""
    operator_chats: tuple[int, ...] = ()
    """Chats that are told when a round passes or fails and when a version goes live or is taken back."""
    notice_every_s: float = Field(default=30.0, ge=1, le=3600)
    """How often the server is asked for such news."""
    notice_language: str | None = None
    """Language of such news, say "zh-Hans". None: the one that an operator's app was in when they last wrote."""
    compare_share: float = Field(default=0.1, ge=0, le=1)
    """Share of turns in private chats that show two replies to choose from. 0: never."""
    compare_style: Literal["messages", "card"] = "messages"
    """Two replies as two messages, or both on one card where they fit."""
    groups: bool = True
    """Answer in groups when mentioned or replied to. Off: private chats only."""
    group_edits: int = Field(default=2, ge=0, le=10)
    """How often a reply that grows is edited in a group before it is whole. Telegram allows 20 messages a minute."""
    draft_every_s: float = Field(default=0.5, ge=0.3, le=10)
    """How often a reply that grows is shown in a private chat."""
    api_url: str = Field(default="https://api.telegram.org/bot", pattern=r"^https?://.+")
    """Address of the Bot API up to the token; of your own Bot API server, if you run one."""
    webhook_url: str | None = Field(default=None, pattern=r"^https://.+")
    """Public address that Telegram sends updates to, a proxy with a certificate in front of it. None: ask for them."""
    webhook_host: str = "127.0.0.1"
    """Address at which the webhook listens behind that proxy."""
    webhook_port: int = Field(default=8443, ge=0, le=65535)
    """Port at which the webhook listens. 0 picks a free one."""

    _notices_are_spoken = field_validator("notice_language")(_known_language)


class DiscordSettings(BaseModel):
    """[discord]: the bot that `thumbwise bot discord` runs. Its token is THUMBWISE_DISCORD_TOKEN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    admin_ids: tuple[int, ...] = ()
    """Discord user ids that may use /align, /versions, /promote and /rollback. Nobody, unless named here."""
    operator_channels: tuple[int, ...] = ()
    """Channels that are told when a round passes or fails and when a version goes live or is taken back."""
    operator_users: tuple[int, ...] = ()
    """People who are told the same by direct message."""
    notice_every_s: float = Field(default=30.0, ge=1, le=3600)
    """How often the server is asked for such news."""
    notice_language: str | None = None
    """Language of such news, say "zh-Hans". None: of a channel the one of its server, of a person the one that their
    app was in when they last used a command of operators."""
    compare_share: float = Field(default=0.1, ge=0, le=1)
    """Share of turns in direct messages that show two replies to choose from. 0: never."""
    compare_style: Literal["card", "messages"] = "card"
    """Two replies on one card where they fit, or always as two messages."""
    servers: bool = True
    """Answer in servers when mentioned. Off: direct messages only."""
    edit_every_s: float = Field(default=1.5, ge=1, le=30)
    """How often a reply that grows is edited."""
    most_edits: int = Field(default=20, ge=0, le=200)
    """How often it is edited at most before it is whole. 0: shown when it is whole."""
    sync_commands: bool = True
    """Tell Discord the slash commands when they have changed since they were last told. Off: never."""
    shard_count: int | None = Field(default=None, ge=1)
    """Connections that the servers are shared out among. None: as many as Discord advises."""
    shard_ids: tuple[int, ...] = ()
    """Those of them that this process keeps; each process needs a data folder of its own. Empty: all."""

    _notices_are_spoken = field_validator("notice_language")(_known_language)

    @model_validator(mode="after")
    def _shards_fit(self) -> Self:
        if self.shard_ids and (self.shard_count is None or max(self.shard_ids) >= self.shard_count):
            raise ValueError("shard_ids need a shard_count that is above each of them")
        return self
