"""What a bot answers to acts, whichever the platform."""

from thumbwise.client import Consent, Erasure
from thumbwise.client.calls import Thumb
from thumbwise.rating.buttons import ButtonRefused
from thumbwise.rating.texts import Texts


def greeting(texts: Texts) -> str:
    """What a bot says of itself."""
    return texts.say(
        "Hello! Write to me and I will answer. Rate my answers with 👍 and 👎, and I get better.\n"
        "/new – begin a new conversation\n/privacy – what is kept of you"
    )


def described(texts: Texts) -> dict[str, str]:
    """What each command is for, as a platform's menu shows it."""
    return {
        "new": texts.say("Begin a new conversation"),
        "privacy": texts.say("What is kept of you"),
        "consent": texts.say("May I learn from our chats?"),
        "export": texts.say("Get what is kept of you"),
        "forget": texts.say("Erase what is kept of you"),
        "better": texts.say("Reply to an answer with a better one"),
        "ask": texts.say("Ask me in a group"),
        "regenerate": texts.say("Give my last answer anew"),
    }


def thumb_stored(texts: Texts, chosen: Thumb | None) -> str:
    """A thumb counts, or was taken back."""
    sign = {"up": "👍 ", "down": "👎 ", None: ""}[chosen]
    return sign + (texts.say("Thank you!") if chosen else texts.say("Taken back."))


def verdict_stored(texts: Texts, chosen: str | None) -> str:
    """A choice counts, or was taken back."""
    return texts.say("Thank you!") if chosen is not None else texts.say("Taken back.")


def consent_stored(texts: Texts, given: bool) -> str:
    """An answer to the question of consent is noted."""
    if given:
        return texts.say("Thank you! From now on I keep our chats and learn from them. /consent changes it.")
    return texts.say("Understood: I keep no text of yours. /consent changes it.")


def erased(texts: Texts, erasure: Erasure) -> str:
    """What was erased of a person, and what cannot be."""
    said = texts.say(
        "Erased: {replies} answers and {votes} ratings. We do not know each other any more.",
        replies=erasure.replies,
        votes=erasure.feedback,
    )
    if erasure.affected_versions:
        versions = ", ".join(map(str, erasure.affected_versions))
        said += "\n" + texts.say("Trained on some of it, and not unlearnt: version {versions}", versions=versions)
    return said


def correction_needs_consent(texts: Texts) -> str:
    """A better answer is a person's own text."""
    return texts.say("A better answer is your own words, which I may keep only if you agree: /consent")


def not_allowed_here(texts: Texts) -> str:
    """The bot runs without the admin's token."""
    return texts.say("I may not do that here. Please ask the operator of this bot.")


def refused(texts: Texts, refusal: ButtonRefused) -> str:
    """Why a press does nothing."""
    return {
        "forged": texts.say("This button is not valid."),
        "not_yours": texts.say("This button is for somebody else."),
        "expired": texts.say("This button is too old."),
        "replayed": texts.say("This was done already."),
    }[refusal.reason]


def answer_now(texts: Texts, consent: Consent) -> str:
    """What a person's answer to the question of consent is at present."""
    return texts.say("Your answer now: yes.") if consent.in_force else texts.say("Your answer now: no.")
