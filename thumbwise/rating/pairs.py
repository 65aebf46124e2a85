"""The texts of replies that wait to be chosen from, in memory alone: the conversation goes on from the chosen one."""

from collections import OrderedDict

from thumbwise.rating.buttons import reply_in
from thumbwise.rating.conversations import Conversations, Place
from thumbwise.rating.plain_text import clean

MOST_PAIRS = 1_000


class PairTexts:
    """Comparison → the texts of its replies, for a while."""

    def __init__(self, most: int = MOST_PAIRS) -> None:
        self._most = most
        self._of: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def remember(self, comparison_id: str, texts: tuple[str, ...]) -> None:
        """Keep the texts of a comparison."""
        self._of[comparison_id] = tuple(clean(text) for text in texts)  # as the conversation holds them
        while len(self._of) > self._most:
            self._of.popitem(last=False)

    def go_on_from(self, comparison_id: str, chosen: str | None, conversations: Conversations, place: Place) -> None:
        """Let the conversation at a place go on from the chosen reply, if one of them is still its last message."""
        texts = self._of.get(comparison_id)
        if texts is not None and chosen is not None and chosen.isdigit() and int(chosen) < len(texts):
            conversation = conversations.at(place)
            if conversation.messages and conversation.messages[-1]["content"] in texts:
                conversation.replace_last_reply(texts[int(chosen)], reply_in(comparison_id, int(chosen)))
