"""What the slash commands are called in Discord's menu, in every language that we have a catalogue of."""

import discord
from discord import app_commands

from thumbwise.rating.texts import Texts, languages, texts_for

DESCRIPTIONS = (
    app_commands.TranslationContextLocation.command_description,
    app_commands.TranslationContextLocation.group_description,
    app_commands.TranslationContextLocation.parameter_description,
)


class CatalogueTranslator(app_commands.Translator):
    """Translates descriptions from the catalogues; names stay as the texts write them (/new, /consent)."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: discord.Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        """Return a description in a language; None where there is none, or it is English anyway."""
        if context.location not in DESCRIPTIONS:
            return None
        texts = texts_for(str(locale))
        if texts.language == "en":
            return None
        found = texts.say(string.message)
        return found if found != string.message else None


def operators_commands(texts: Texts) -> dict[str, str]:
    """What each of the operators' commands and its parameters is for."""
    return {
        "align": texts.say("The rounds of training"),
        "align status": texts.say("What is live, and whether a round could run"),
        "align start": texts.say("Start a round"),
        "align cancel": texts.say("Cancel the round that is under way"),
        "versions": texts.say("The newest versions"),
        "promote": texts.say("Make a version live"),
        "rollback": texts.say("Let the version before answer again"),
        "number": texts.say("The version's number"),
        "force": texts.say("Even if the gate or the readiness says no"),
    }


def every_language() -> dict[str, dict[str, str]]:
    """Return the operators' descriptions in each language: what Discord must be told anew when it changes."""
    return {language: operators_commands(texts_for(language)) for language in languages()}
