"""What `thumbwise doctor` looks at beside secrets and addresses: what a visitor could use up, and a break-in reach."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thumbwise.cli.finding import Finding

if TYPE_CHECKING:
    from thumbwise.config import Settings


def examine_limits(settings: "Settings") -> Iterator[Finding]:
    """Look at everything."""
    yield from user()
    yield open_files(settings)
    yield from vote_rate(settings)
    yield from vllm_key(settings)


def user() -> Iterator[Finding]:
    """Whether a break-in would have the whole machine."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield Finding("user", "note", "this is root, who may do anything here", "run it as a user of its own")


def open_files(settings: "Settings") -> Finding:
    """Whether as many connections fit as are allowed."""
    from serving.api.server import SPARE_FILES, files_allowed

    allowed, wanted = files_allowed(), settings.serving.max_connections + SPARE_FILES
    if allowed is None or allowed >= wanted:
        return Finding("open files", "ok", f"{'any number' if allowed is None else allowed}, {wanted} may be needed")
    return Finding(
        "open files", "note", f"{allowed} may be open, so {max(1, allowed - SPARE_FILES)} connections at a time",
        f"raise the system's limit to {wanted} (LimitNOFILE, ulimit -n), or lower serving.max_connections",
    )  # fmt: skip


def vote_rate(settings: "Settings") -> Iterator[Finding]:
    """Whether strangers may vote without pause."""
    from thumbwise.cli.examine_safety import is_this_machine

    if settings.serving.votes_per_minute == 0 and not is_this_machine(settings.serving.host):
        yield Finding(
            "votes",
            "note",
            "one rater may give any number a minute",
            "set serving.votes_per_minute, or limit it before",
        )


def vllm_key(settings: "Settings") -> Iterator[Finding]:
    """Whether others could use the vLLM servers past this one."""
    from thumbwise.cli.examine_safety import is_this_machine, weakness

    if settings.policy.engine != "vllm":
        return
    elsewhere = [url for url in settings.vllm.replicas if not is_this_machine(urlsplit(url).hostname or "")]
    if settings.vllm_api_key is None:
        if elsewhere:
            yield Finding(
                "vLLM key", "note", "the vLLM servers on other machines are asked without a key",
                "start them with --api-key, set THUMBWISE_VLLM_API_KEY, and keep their ports in a network of their own",
            )  # fmt: skip
    elif reason := weakness(settings.vllm_api_key):
        yield Finding("vLLM key's strength", "bad", reason, "give the vLLM servers a random one")
