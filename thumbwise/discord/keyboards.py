"""Cards as Discord's buttons. Each button's custom_id is our signed data, so it works after any restart.

`RatingButton` is a dynamic item: discord.py finds it by the form of its custom_id and keeps no view of ours in memory.
It looks the cog up at each press, because a reloaded extension has another one.
"""

import re
from typing import TYPE_CHECKING, Any, Self

import discord

from thumbwise.rating.buttons import ButtonSigner
from thumbwise.rating.cards import Card, Key

if TYPE_CHECKING:
    from thumbwise.discord.cog import DiscordRating

COG_NAME = "Thumbwise"
STYLES = {
    "plain": discord.ButtonStyle.secondary,
    "good": discord.ButtonStyle.success,
    "bad": discord.ButtonStyle.danger,
}
AnyButton = discord.ui.Button[Any]


class RatingButton(discord.ui.DynamicItem[AnyButton], template=r"tw1\.[A-Za-z0-9_-]{8,96}"):
    """One of our buttons."""

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button that was pressed."""
        assert isinstance(item, discord.ui.Button), "the template is of buttons alone"
        return cls(item)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Hand a press to the cog of the bot it came to."""
        cog: DiscordRating | None = interaction.client.get_cog(COG_NAME)
        if cog is not None:
            await cog.presses.on_press(interaction, self.custom_id)


def view_of(card: Card, signer: ButtonSigner, channel: int) -> discord.ui.View | None:
    """Return a card's buttons for a channel; None for a card without any."""
    if not card.rows:
        return None
    view = discord.ui.View(timeout=None)
    for number, row in enumerate(card.rows):
        for key in row:
            view.add_item(_item(key, signer, channel, number))
    return view


def layout_of(texts: tuple[str, ...], card: Card, signer: ButtonSigner, channel: int) -> discord.ui.LayoutView:
    """Return replies in boxes of their own, the card's text and its buttons, as one message."""
    colours = (discord.Colour.blurple(), discord.Colour.gold())
    layout = discord.ui.LayoutView(timeout=None)
    for place, text in enumerate(texts):
        box: discord.ui.Container[discord.ui.LayoutView] = discord.ui.Container(
            discord.ui.TextDisplay(text), accent_colour=colours[place % len(colours)]
        )
        layout.add_item(box)
    return with_card(layout, card, signer, channel)


def with_card(layout: discord.ui.LayoutView, card: Card, signer: ButtonSigner, channel: int) -> discord.ui.LayoutView:
    """Put a card's text and buttons at the end of a layout, in place of those that it has."""
    for item in list(layout.children):
        if not isinstance(item, discord.ui.Container):
            layout.remove_item(item)
    if card.text:
        layout.add_item(discord.ui.TextDisplay(card.text))
    for row in card.rows:
        layout.add_item(discord.ui.ActionRow(*(_item(key, signer, channel, None) for key in row)))
    return layout


def custom_ids_of(message: discord.Message) -> list[str]:
    """Return the data of every button below a message."""
    found: list[str] = []

    def look(components: Any) -> None:
        for component in components or ():
            if isinstance(custom_id := getattr(component, "custom_id", None), str):
                found.append(custom_id)
            look(getattr(component, "children", ()))

    look(message.components)
    return found


def _item(key: Key, signer: ButtonSigner, channel: int, row: int | None) -> discord.ui.Item[Any]:
    if key.button is None:
        return discord.ui.Button(label=key.label, url=key.url, row=row)
    data = signer.data(key.button, channel)
    return RatingButton(discord.ui.Button(style=STYLES[key.style], label=key.label, custom_id=data, row=row))
