"""Settings of the web chat: section [web] of thumbwise.toml."""

from pydantic import BaseModel, ConfigDict, Field


class WebSettings(BaseModel):
    """[web]: what the page shows, and how often it asks for a choice between two replies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="Thumbwise", min_length=1, max_length=60)
    """Name of the bot, at the top of the page and in the browser's tab."""
    compare_share: float = Field(default=0.15, ge=0, le=1)
    """Share of turns that show two replies side by side without the user asking. 0: only when the user asks."""
    examples: tuple[str, ...] = Field(
        default=(
            "Give me three ideas for a rainy afternoon.",
            "Explain in two sentences why the sky is blue.",
            "Write a short, friendly reminder to return a book.",
            "What should I look for when I buy a used bicycle?",
        ),
        max_length=6,
    )
    """Prompts that an empty conversation offers."""
