"""The parts of one bot's plug-in, put together once by `attach` and handed to every handler."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from telegram import Bot, Chat, InlineKeyboardButton, InlineKeyboardMarkup, Message, User
from telegram.constants import ChatType

from thumbwise.client import AsyncThumbwise
from thumbwise.rating.book import Marks, MemoryBook, ReplyBook
from thumbwise.rating.buttons import Act, Button, ButtonSecrets, ButtonSigner
from thumbwise.rating.cards import Card
from thumbwise.rating.conversations import Conversations, Place
from thumbwise.rating.desk import RatingDesk
from thumbwise.rating.latest_edits import LatestEdits
from thumbwise.rating.pairs import PairTexts
from thumbwise.rating.privacy import PrivacyDesk
from thumbwise.rating.replies import ReplyDesk
from thumbwise.rating.texts import Texts, texts_for
from thumbwise.telegram.outbox import Outbox

Mode = Literal["policy", "host"]
CHANNEL: Literal["telegram"] = "telegram"
PressHandler = Callable[[Texts, User, Button], Awaitable[str]]
"""Does what a press asks for and returns what to say in place of the card."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a plug-in behaves; see `attach`."""

    mode: Mode = "policy"
    compare_share: float = 0.0
    compare_style: Literal["messages", "card"] = "messages"
    groups: bool = True
    group_edits: int = 2
    draft_every_s: float = 0.5
    ask_consent: bool = True


class NewestNumbers:
    """The newest message number that was seen. Private chats and small groups of a bot are numbered together, from
    -10^12 down each chat has numbers of its own."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}

    def saw(self, chat: int, message: int) -> None:
        """Note a message's number."""
        own = chat if chat <= -(10**12) else 0
        self._newest[own] = max(message, self._newest.get(own, 0))

    def number(self, chat: int) -> int:
        """Return the newest number where a chat's messages are counted."""
        return self._newest.get(chat if chat <= -(10**12) else 0, 0)


@dataclass(slots=True)
class Parts:
    """What the handlers of one bot share."""

    bot: Bot
    client: AsyncThumbwise
    options: Options
    signer: ButtonSigner
    marks: Marks
    book: ReplyBook
    desk: RatingDesk
    privacy: PrivacyDesk
    replies: ReplyDesk
    conversations: Conversations
    outbox: Outbox
    edits: LatestEdits
    newest: NewestNumbers = field(default_factory=NewestNumbers)
    presses: dict[Act, PressHandler] = field(default_factory=dict)
    """Acts that somebody else handles: the admin's."""
    pair_texts: PairTexts = field(default_factory=PairTexts)

    def keyboard(self, card: Card, chat: int) -> InlineKeyboardMarkup | None:
        """Return a card's keys as a keyboard for a chat; None for a card without any."""
        rows = [
            [
                InlineKeyboardButton(key.label, url=key.url)
                if key.button is None
                else InlineKeyboardButton(key.label, callback_data=self.signer.data(key.button, chat))
                for key in row
            ]
            for row in card.rows
        ]
        return InlineKeyboardMarkup(rows) if rows else None


def parts_of_bot(
    bot: Bot,
    client: AsyncThumbwise,
    options: Options,
    book: ReplyBook | None = None,
    secret: bytes | str | ButtonSecrets | None = None,
) -> Parts:
    """Put the parts together. The bot's token is the secret of buttons and marks unless another one is given; those of
    buttons alone leave the marks to the token."""
    scope = f"{CHANNEL}:{bot_id_of(bot)}"
    of_marks = bot.token if secret is None or isinstance(secret, ButtonSecrets) else secret
    marks, book = Marks(of_marks, scope), book or MemoryBook()
    conversations = Conversations()
    outbox = Outbox()
    return Parts(
        bot=bot,
        client=client,
        options=options,
        signer=ButtonSigner(secret or bot.token, scope),
        marks=marks,
        book=book,
        desk=RatingDesk(client, CHANNEL, book, marks, scope),
        privacy=PrivacyDesk(client, CHANNEL, book, marks, conversations),
        replies=ReplyDesk(client, CHANNEL),
        conversations=conversations,
        outbox=outbox,
        edits=LatestEdits(outbox.edit),
    )


def bot_id_of(bot: Bot) -> int:
    """Return a bot's id, which its token begins with: known before the bot has spoken to Telegram."""
    return int(bot.token.partition(":")[0])


def place_of(message: Message, user: User) -> Place:
    """Return where a conversation of `user` takes place: chat, topic, person."""
    return (str(message.chat.id), str(thread_of(message) or ""), str(user.id))


def thread_of(message: Message) -> int | None:
    """Return the topic of a message in a forum. An old message that was pressed comes without such details."""
    return message.message_thread_id if getattr(message, "is_topic_message", False) else None


def texts_of(user: User | None) -> Texts:
    """Return the texts in a person's language."""
    return texts_for(user.language_code if user else None)


def is_shared(chat: Chat) -> bool:
    """Say whether a chat has more than one person in it, so that a keyboard there cannot know who looks."""
    return chat.type != ChatType.PRIVATE
