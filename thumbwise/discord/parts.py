"""The parts of one bot's plug-in, put together when it knows who it is, and handed to everything that needs them."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import discord

from thumbwise.client import AsyncThumbwise
from thumbwise.discord.outbox import send_edit
from thumbwise.rating.book import Marks, MemoryBook, ReplyBook
from thumbwise.rating.buttons import Act, Button, ButtonSecrets, ButtonSigner
from thumbwise.rating.conversations import Conversations, Place
from thumbwise.rating.desk import RatingDesk
from thumbwise.rating.latest_edits import LatestEdits
from thumbwise.rating.pairs import PairTexts
from thumbwise.rating.privacy import PrivacyDesk
from thumbwise.rating.replies import ReplyDesk
from thumbwise.rating.texts import Texts, language_of, texts_for

AnyInteraction = discord.Interaction[Any]
Mode = Literal["policy", "host"]
CHANNEL: Literal["discord"] = "discord"
INTENTS = discord.Intents(guilds=True, messages=True, reactions=True)
"""What the plug-in needs to be told. Not the privileged message content: Discord gives a bot the text of direct
messages and of messages that mention it without, and nobody else's words are its business."""
MOST_REMEMBERED = 10_000

PressHandler = Callable[[Texts, int, Button], Awaitable[str]]
"""Does what a press asks for and returns what to say in place of the card."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a plug-in behaves; see `DiscordRating`."""

    mode: Mode = "policy"
    compare_share: float = 0.0
    compare_style: Literal["card", "messages"] = "card"
    servers: bool = True
    edit_every_s: float = 1.5
    most_edits: int = 20
    ask_consent: bool = True


@dataclass(slots=True)
class Remembered:
    """What is remembered of people and replies in memory alone: which language, and where the shared buttons are."""

    languages: OrderedDict[int, str] = field(default_factory=OrderedDict)
    places: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)
    """Reply → the channel and message whose buttons a server shares."""

    def language(self, user: int, language: str) -> None:
        """Note a person's language: Discord tells it with interactions, and not with messages."""
        self.languages[user] = language
        _trim(self.languages)

    def place(self, reply_id: str, channel: int, message: int) -> None:
        """Note where the buttons below a reply are."""
        self.places[reply_id] = (channel, message)
        _trim(self.places)


@dataclass(slots=True)
class Parts:
    """What the handlers of one bot share."""

    bot: discord.Client
    bot_id: int
    client: AsyncThumbwise
    options: Options
    signer: ButtonSigner
    marks: Marks
    book: ReplyBook
    desk: RatingDesk
    privacy: PrivacyDesk
    replies: ReplyDesk
    conversations: Conversations
    edits: LatestEdits
    pair_texts: PairTexts = field(default_factory=PairTexts)
    remembered: Remembered = field(default_factory=Remembered)
    presses: dict[Act, PressHandler] = field(default_factory=dict)
    """Acts that somebody else handles: the admin's."""

    def texts_of(self, interaction: AnyInteraction) -> Texts:
        """Return the texts in the language of whoever pressed or commanded, and remember it."""
        language = str(interaction.locale)
        self.remembered.language(interaction.user.id, language)
        return texts_for(language)

    def texts_of_author(self, message: discord.Message) -> Texts:
        """Return the texts for whoever wrote a message: in the language they last used, else the one they write, else
        the server's."""
        known = self.remembered.languages.get(message.author.id) or language_of(message.content)
        return texts_for(known) if known else texts_of_server(message.guild)


def parts_of_bot(
    bot: discord.Client,
    client: AsyncThumbwise,
    options: Options,
    book: ReplyBook | None = None,
    secret: bytes | str | ButtonSecrets | None = None,
) -> Parts:
    """Put the parts together, once the bot has logged in. Its token is the secret of buttons and marks by default."""
    if bot.user is None or not (secret or bot.http.token):
        raise RuntimeError("the bot has not logged in; wanted one that Discord has told its id")
    scope = f"{CHANNEL}:{bot.user.id}"
    token = bot.http.token or ""
    of_marks = token if secret is None or isinstance(secret, ButtonSecrets) else secret
    marks, book, conversations = Marks(of_marks, scope), book or MemoryBook(), Conversations()
    return Parts(
        bot=bot,
        bot_id=bot.user.id,
        client=client,
        options=options,
        signer=ButtonSigner(secret or token, scope),
        marks=marks,
        book=book,
        desk=RatingDesk(client, CHANNEL, book, marks, scope),
        privacy=PrivacyDesk(client, CHANNEL, book, marks, conversations),
        replies=ReplyDesk(client, CHANNEL),
        conversations=conversations,
        edits=LatestEdits(send_edit),
    )


def place_of(channel: int, user: int) -> Place:
    """Return where a conversation takes place: channel (a thread is one of its own), person."""
    return (str(channel), str(user))


def texts_of_server(guild: discord.Guild | None) -> Texts:
    """Return the texts in the language that a server chose, which buttons that all of it sees are in."""
    return texts_for(str(guild.preferred_locale) if guild is not None else None)


def channel_of(interaction: AnyInteraction) -> int:
    """Return the number of the channel of an interaction: what its buttons were signed for."""
    return interaction.channel_id or 0


def is_shared(interaction: AnyInteraction) -> bool:
    """Say whether more than one person sees the message that was pressed."""
    if interaction.message is not None and interaction.message.flags.ephemeral:
        return False
    return interaction.guild_id is not None or isinstance(interaction.channel, discord.GroupChannel)


def _trim(entries: OrderedDict[Any, Any]) -> None:
    while len(entries) > MOST_REMEMBERED:
        entries.popitem(last=False)
