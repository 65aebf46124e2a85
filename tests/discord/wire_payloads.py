"""What Discord's gateway and REST say, as discord.py reads it: users, a server, channels, messages."""

import base64
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
BOT_ID = 1_096_712_345_678_901_234
TOKEN = base64.urlsafe_b64encode(str(BOT_ID).encode()).decode().rstrip("=") + ".Canary.token-of-discord-never-in-logs"
"""As Discord makes them: the bot's number first."""
GUILD_ID, CHANNEL_ID = (9 << 22) + 1, (9 << 22) + 2
"""A server's shard is its number without the lower 22 bits, modulo the number of shards."""
EVERYTHING = str((1 << 47) - 1)
EPHEMERAL, COMPONENTS_V2 = 1 << 6, 1 << 15
"""Flags of a message."""


def user(user_id: int, *, bot: bool = False) -> Json:
    """Return a user."""
    name = "thumbwise" if bot else "somebody"
    return {"id": str(user_id), "username": name, "discriminator": "0", "global_name": None, "avatar": None, "bot": bot,
            "public_flags": 0, "flags": 0}  # fmt: skip


BOT = user(BOT_ID, bot=True)


def member(user_id: int, *, bot: bool = False) -> Json:
    """Return a user as a member of the server."""
    return {"user": user(user_id, bot=bot), "roles": [], "joined_at": "2026-01-01T00:00:00+00:00", "deaf": False,
            "mute": False, "flags": 0, "permissions": EVERYTHING, "nick": None, "avatar": None}  # fmt: skip


def guild() -> Json:
    """Return the server, with one channel."""
    everyone = {"id": str(GUILD_ID), "name": "@everyone", "color": 0, "hoist": False, "position": 0, "flags": 0,
                "permissions": EVERYTHING, "managed": False, "mentionable": False,
                "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}}  # fmt: skip
    return {
        "id": str(GUILD_ID), "name": "Club", "owner_id": "1", "icon": None, "unavailable": False, "member_count": 3,
        "large": False, "roles": [everyone], "emojis": [], "stickers": [], "features": [], "channels": [text_channel()],
        "threads": [], "members": [member(BOT_ID, bot=True)], "presences": [], "voice_states": [], "mfa_level": 0,
        "stage_instances": [], "guild_scheduled_events": [], "soundboard_sounds": [], "preferred_locale": "en-US",
        "verification_level": 0, "default_message_notifications": 1, "explicit_content_filter": 0, "nsfw_level": 0,
        "premium_tier": 0, "afk_timeout": 300, "afk_channel_id": None, "system_channel_id": None,
        "system_channel_flags": 0, "joined_at": "2026-01-01T00:00:00+00:00", "application_id": None,
    }  # fmt: skip


def text_channel() -> Json:
    """Return the server's channel."""
    return {"id": str(CHANNEL_ID), "type": 0, "guild_id": str(GUILD_ID), "name": "general", "position": 0,
            "permission_overwrites": [], "nsfw": False, "topic": None, "parent_id": None, "last_message_id": None,
            "rate_limit_per_user": 0, "flags": 0}  # fmt: skip


def dm_channel(channel_id: int, user_id: int) -> Json:
    """Return the channel of a direct message."""
    return {"id": str(channel_id), "type": 1, "recipients": [user(user_id)], "last_message_id": None, "flags": 0}


def application() -> Json:
    """Return what a bot is told of its application."""
    return {"id": str(BOT_ID), "name": "thumbwise", "description": "", "icon": None, "bot_public": False,
            "bot_require_code_grant": False, "owner": user(1), "verify_key": "", "flags": 0, "team": None}  # fmt: skip


def message(message_id: int, channel_id: int, author: Json, content: str, **values: Any) -> Json:
    """Return a message."""
    return {
        "id": str(message_id), "channel_id": str(channel_id), "author": author, "content": content,
        "timestamp": datetime.now(UTC).isoformat(), "edited_timestamp": None, "tts": False, "mention_everyone": False,
        "mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "pinned": False, "type": 0, "flags": 0,
        "components": [], **values,
    }  # fmt: skip


def interaction(interaction_id: int, kind: int, channel: Json, user_id: int, locale: str, data: Json) -> Json:
    """Return a press (3) or a command (2)."""
    in_guild = channel["type"] != 1
    who: Json = {"guild_id": str(GUILD_ID), "guild_locale": "en-US", "member": member(user_id)} if in_guild else {}
    return {
        "id": str(interaction_id), "application_id": str(BOT_ID), "type": kind, "token": f"token-{interaction_id}",
        "version": 1, "channel": channel, "channel_id": channel["id"], "locale": locale, "app_permissions": EVERYTHING,
        "entitlements": [], "authorizing_integration_owners": {}, "context": 0 if in_guild else 1,
        "attachment_size_limit": 10_485_760, "data": data, **(who or {"user": user(user_id)}),
    }  # fmt: skip


def labels(found: Json) -> list[str]:
    """Return the labels of a message's buttons."""
    return [label_of(button) for button in buttons(found["components"])]


def label_of(button: Json) -> str:
    """Return what stands on a button."""
    emoji = (button.get("emoji") or {}).get("name") or ""
    return f"{emoji} {button.get('label') or ''}".strip()


def buttons(components: list[Json]) -> list[Json]:
    """Return every button in a tree of components."""
    found: list[Json] = []
    for component in components:
        if component["type"] == 2:
            found.append(component)
        found += buttons(component.get("components", []))
    return found


def custom_ids(components: list[Json]) -> list[str]:
    """Return the data of every component."""
    found: list[str] = []
    for component in components:
        found += [component["custom_id"]] if component.get("custom_id") else []
        found += custom_ids(component.get("components", []))
    return found
