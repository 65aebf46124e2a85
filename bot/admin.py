"""The operator's commands in a chat: look, start, cancel, promote, roll back. The same acts as `thumbwise round …` and
`thumbwise version …`, over the same HTTP API, with the admin's token.

Allowed are the configured ids and nobody else, checked again at the press of the confirming key: that key is signed for
its one owner, acts once and ages. It carries what was live when it was shown, so a press that comes too late moves
nothing (409). The reason that the deployment log keeps names the platform's id of whoever pressed; a line in the log of
the process names act, id and result.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bot.operators import reason_in, state_in
from thumbwise.client import ApiError, AsyncThumbwise, Round, ThumbwiseError, Version
from thumbwise.rating.buttons import Act, Button
from thumbwise.rating.cards import Card, confirm_card
from thumbwise.rating.replies import trouble
from thumbwise.rating.texts import Texts

log = logging.getLogger(__name__)

ACTIONS = ("start", "start_forced", "cancel", "promote", "promote_forced", "rollback")
"""`Button.detail` of an ADMIN button is a place in here. Only ever append."""
COMMANDS = ("align", "versions", "promote", "rollback")
LISTED = 8


@dataclass(frozen=True, slots=True)
class AdminDesk:
    """Answers the operator's commands. `client` holds the admin's token; `channel` names the platform in the audit."""

    client: AsyncThumbwise
    channel: str
    admins: frozenset[int]

    def allows(self, user: int) -> bool:
        """Say whether a person may use these commands."""
        return user in self.admins

    async def command(self, texts: Texts, user: int, command: str, words: Sequence[str]) -> Card:
        """Answer `/command words`: a text, with a confirming key where it would change something."""
        if not self.allows(user):
            log.warning("an admin command was refused channel=%s user=%d command=%s", self.channel, user, command)
            return Card((), texts.say("This command is for the operators of this bot."))
        try:
            match command, list(words):
                case "align", [] | ["status"]:
                    return Card((), await self._status(texts))
                case "align", ["start", *rest] if rest in ([], ["force"]):
                    return await self._ask_start(texts, user, forced=bool(rest))
                case "align", ["cancel"]:
                    return await self._ask_cancel(texts, user)
                case "versions", []:
                    return Card((), await self._versions(texts))
                case "promote", [number, *rest] if number.isdigit() and rest in ([], ["force"]):
                    return await self._ask_promote(texts, user, int(number), forced=bool(rest))
                case "rollback", []:
                    return await self._ask_rollback(texts, user)
            return Card((), usage(texts))
        except ThumbwiseError as error:
            return Card((), _said(texts, error))

    async def confirmed(self, texts: Texts, user: int, button: Button) -> str:
        """Do what a confirming key asks for, and say what came of it. The button was verified before."""
        action = ACTIONS[button.detail] if button.detail < len(ACTIONS) else ""
        if not self.allows(user) or not action:
            log.warning("an admin press was refused channel=%s user=%d", self.channel, user)
            return texts.say("This command is for the operators of this bot.")
        try:
            done = await self._do(texts, action, button.target, f"by {self.channel} {user}")
        except ThumbwiseError as error:
            log.info("admin act=%s channel=%s user=%d result=%s", action, self.channel, user, type(error).__name__)
            return _said(texts, error)
        log.info("admin act=%s target=%s channel=%s user=%d result=done", action, button.target, self.channel, user)
        return done

    async def _do(self, texts: Texts, action: str, target: str, reason: str) -> str:
        match action:
            case "start" | "start_forced":
                begun = await self.client.start_round(force=action == "start_forced")
                return texts.say("Round {number} is requested.", number=begun.round_id)
            case "cancel":
                ended = await self.client.cancel_round(int(target))
                return texts.say("Round {number} is cancelled.", number=ended.round_id)
            case "promote" | "promote_forced":
                version, _, live = target.partition(":")
                forced = action == "promote_forced"
                moved = await self.client.promote(int(version), reason, force=forced, expected_live=int(live))
                return texts.say("Version {version} is live.", version=moved.version)
            case _:
                moved = await self.client.rollback(reason, expected_live=int(target))
                return texts.say("Rolled back: version {version} is live.", version=moved.version)

    async def _status(self, texts: Texts) -> str:
        rounds = await self.client.rounds(limit=1)
        report = await self.client.readiness()
        lines = [texts.say("Live: version {version}", version=await self._live())]
        if rounds:
            lines.append(round_line(texts, rounds[0]))
        if report.get("ready"):
            lines.append(texts.say("A round could run now: /align start"))
        elif reason := report.get("reason"):
            lines.append(texts.say("Not ready for a round: {reason}", reason=reason))
        return "\n".join(lines)

    async def _versions(self, texts: Texts) -> str:
        found = sorted(await self.client.versions(), key=lambda version: -version.version)
        lines = [_version_line(texts, version) for version in found[:LISTED]]
        return "\n".join([texts.say("Versions, the newest first:"), *lines])

    async def _ask_start(self, texts: Texts, user: int, *, forced: bool) -> Card:
        question = texts.say("Start a round now?")
        if forced:
            question = texts.say("Start a round now, even if there is too little feedback?")
        return _confirm(texts, question, texts.say("Start"), "start_forced" if forced else "start", "", user)

    async def _ask_cancel(self, texts: Texts, user: int) -> Card:
        rounds = await self.client.rounds(limit=1)
        if not rounds or rounds[0].ended:
            return Card((), texts.say("No round is under way."))
        question = texts.say("Cancel round {number}?", number=rounds[0].round_id)
        return _confirm(texts, question, texts.say("Cancel the round"), "cancel", str(rounds[0].round_id), user)

    async def _ask_promote(self, texts: Texts, user: int, version: int, *, forced: bool) -> Card:
        found, live = await self.client.version(version), await self._live()
        question = texts.say("Make version {version} live in place of {live}?", version=version, live=live)
        if forced:
            question += "\n" + texts.say("Its gate is passed over; the log will say so.")
        question = f"{_version_line(texts, found)}\n{question}"
        action = "promote_forced" if forced else "promote"
        return _confirm(texts, question, texts.say("Promote"), action, f"{version}:{live}", user)

    async def _ask_rollback(self, texts: Texts, user: int) -> Card:
        live = await self._live()
        question = texts.say("Take version {version} back, and let the one before it answer?", version=live)
        return _confirm(texts, question, texts.say("Roll back"), "rollback", str(live), user)

    async def _live(self) -> int:
        return next((version.version for version in await self.client.versions() if version.state == "live"), 1)


def usage(texts: Texts) -> str:
    """How the commands are written."""
    return texts.say("Commands of operators:") + (
        "\n/align status\n/align start [force]\n/align cancel\n/versions\n/promote N [force]\n/rollback"
    )


def round_line(texts: Texts, found: Round) -> str:
    """One round in one line."""
    line = texts.say("Round {number}: {state}", number=found.round_id, state=state_in(texts, found.state))
    if found.candidate_version is not None:
        line += " → " + texts.say("version {version}", version=found.candidate_version)
    return f"{line} ({reason_in(texts, found.reason)})" if found.reason else line


def _version_line(texts: Texts, version: Version) -> str:
    outcomes = {
        "pass": texts.say("gate: passed"),
        "fail": texts.say("gate: failed"),
        "inconclusive": texts.say("gate: inconclusive"),
    }
    gate = outcomes.get(str((version.gate_report or {}).get("outcome")), "")
    parts = [str(version.version), state_in(texts, version.state), version.method or "", gate]
    return " · ".join(part for part in parts if part)


def _confirm(texts: Texts, question: str, yes: str, action: str, target: str, user: int) -> Card:
    button = Button(Act.ADMIN, target, ACTIONS.index(action), owner=user, once=True)
    return confirm_card(texts, question, yes, button)


def _said(texts: Texts, error: ThumbwiseError) -> str:
    """An operator reads the server's own reason; it never holds a person's text."""
    if isinstance(error, ApiError) and error.status < 500 and error.status != 429:
        report = error.body.get("readiness")
        reason = report.get("reason") if isinstance(report, dict) else None
        return f"{error.message}\n{reason}" if reason else error.message
    return trouble(texts, error)
