"""Replies with feedback for the browser tests of Inbox and Annotate, each set in a channel of its own."""

from dataclasses import dataclass, field

from feedback_store import annotation_queues, feedback, raters, replies
from feedback_store.connection import Connection
from feedback_store.inbox import has_news
from feedback_store.records import Comparison, NewFeedback, Reply, Sampling, Thumb
from tests.waiting import until
from tests.web.parts import Site


@dataclass
class Rated:
    """Short hands over the site's store; `name` begins every id and is the channel."""

    site: Site
    name: str
    raters: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for person in ("anna", "ben"):
            self.raters.append(f"{self.name}-{person}")
            self.site.store.write(raters.ensure_rater, self.raters[-1], self.name)

    def taken_up(self) -> None:
        """Wait until the inbox shows all that was said: a page waits a second at most, and says what is to come."""
        until(lambda: not self.site.store.read(has_news), "the inbox's news: does the site's inbox keeper run?")

    def reply(self, name: str, question: str, text: str, **changes: object) -> str:
        """Store a reply and return its id."""
        values: dict[str, object] = {
            "reply_id": f"{self.name}-{name}", "policy_version": 1, "adapter_sha256": None, "channel": self.name,
            "rater_id": None, "conversation_id": None, "messages": ({"role": "user", "content": question},),
            "rendered_prompt": None, "text": text, "finish_reason": "stop", "sampling": Sampling(), "prompt_tokens": 5,
            "completion_tokens": 5, "logprob_nats": -2.0, "latency_ms": 10.0,
        }  # fmt: skip
        made = Reply(**(values | changes))  # type: ignore[arg-type]
        self.site.store.write(replies.add_reply, made)
        return made.reply_id

    def thumb(self, reply_id: str, thumb: Thumb, reason: str | None = None, person: int = 0) -> int:
        """Give a thumb and return its number."""
        act = NewFeedback("thumb", self.raters[person], self.name, reply_id=reply_id, thumb=thumb, reason=reason)
        return self.site.store.write(feedback.add_feedback, act).feedback_id

    def correction(self, reply_id: str, words: str) -> int:
        """Write a correction and return its number."""
        act = NewFeedback("correction", self.raters[0], self.name, reply_id=reply_id, correction=words)
        return self.site.store.write(feedback.add_feedback, act).feedback_id

    def task(
        self, name: str, texts: tuple[str, ...], priority: float, question: str = "Which bird sings at night?"
    ) -> str:
        """Make a comparison and a task of it; returns the comparison's id."""
        comparison_id = f"{self.name}-{name}"
        ids = tuple(
            self.reply(f"{name}-{place}", question, text, comparison_id=comparison_id, shown_position=place)
            for place, text in enumerate(texts)
        )

        def add(connection: Connection) -> None:
            replies.add_comparison(connection, Comparison(comparison_id, ids, None, None, self.name))
            annotation_queues.add_tasks(connection, "uncertain", {comparison_id: priority}, created_by="tests")

        self.site.store.write(add)
        return comparison_id
