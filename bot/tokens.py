"""What a bot's process ends with when its platform does not know its token."""


class TokenRefused(RuntimeError):
    """The platform does not know the bot's token (any more)."""
