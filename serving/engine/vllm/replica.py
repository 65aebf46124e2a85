"""One vLLM server over time: is it there, is it the right model, which adapters does it have, how busy is it.

Every look brings it nearer to what is wanted: an adapter that it lacks (a new version, or the server restarted and
forgot) is loaded and warmed before a request is routed to it, one that nobody needs any more is unloaded. What the
server lists is the truth, never what it was told before.

Everything here runs in the engine's event loop; `serves` and the plain fields are read from other threads too.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from feedback_store.records import Sampling
from serving.engine import AdapterRefused, PolicyRef
from serving.engine.vllm.base import PROBE_TEXT, GatewayBase
from serving.engine.vllm.wire import AdapterMissing, Drawn, ReplicaAway, ReplicaError, ReplicaRefusal, Served, Wire
from serving.settings import VllmSettings

logger = logging.getLogger(__name__)

Adapter = str | None
"""An adapter's SHA-256; None is the base model."""
_LONGEST_PAUSE_S = 5.0
"""A replica that fails replies, but says that it is well, is left alone for a while: it looks idle, and would otherwise
draw every request to itself."""
_LONGEST_RETRY_S = 30.0


@dataclass(slots=True)
class _Failed:
    """An adapter that could not be brought. `refused`: by a check or the server itself, not by a lost connection."""

    reason: str
    refused: bool
    times: int
    again_at: float


class Replica:
    """See the module. `wanted` tells which adapters there should be; `on_change` is called when `serves` may differ."""

    def __init__(
        self,
        url: str,
        wire: Wire,
        base: GatewayBase,
        settings: VllmSettings,
        wanted: Callable[[], dict[Adapter, PolicyRef]],
        on_change: Callable[[], None],
    ) -> None:
        self.url = url
        self.trouble: str | None = "not asked yet"
        """Why nothing can be drawn here, or None."""
        self.longest_tokens: int | None = None
        self.in_flight = 0
        self.begun = 0
        """Replies begun here in all: between equally busy replicas the one with fewer is taken."""
        self._wire, self._base, self._settings = wire, base, settings
        self._wanted, self._on_change = wanted, on_change
        self._model = ""
        self._ready: set[Adapter] = set()
        self._own: set[str] = set()
        """Adapters that this process loaded or uses here; others, of another gateway perhaps, are let be."""
        self._failed: dict[Adapter, _Failed] = {}
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._failures, self._paused_until = 0, 0.0

    def serves(self, adapter: Adapter) -> bool:
        """Say whether it is there, and has loaded and warmed the adapter."""
        return self.trouble is None and adapter in self._ready

    @property
    def paused(self) -> bool:
        """It has just failed a reply: others are to be preferred for a moment."""
        return time.monotonic() < self._paused_until

    def why_not(self, adapter: Adapter) -> tuple[str, bool] | None:
        """Return why an adapter is not served, and whether it was refused (rather than not reached); None if it is."""
        if self.trouble is not None:
            return self.trouble, False
        failed = self._failed.get(adapter)
        return (failed.reason, failed.refused) if failed else None

    async def draw(
        self, adapter: Adapter, prompt_ids: tuple[int, ...], sampling: Sampling
    ) -> AsyncGenerator[Drawn, None]:
        """Draw one reply of the base model or an adapter. Raises ReplicaError, and draws the consequences itself."""
        self.in_flight += 1
        self.begun += 1
        try:
            drawing = self._wire.draw(self._name(adapter), prompt_ids, sampling, self._base.end_ids)
            async with contextlib.aclosing(drawing):
                async for drawn in drawing:
                    self._failures = 0
                    yield drawn
        except AdapterMissing:
            self._ready.discard(adapter)
            logger.warning("adapter lost replica=%s adapter=%s", self.url, _short(adapter))
            self.wake()
            raise
        except ReplicaAway as error:
            self._failures += 1
            self._paused_until = time.monotonic() + min(_LONGEST_PAUSE_S, 0.1 * 2**self._failures)
            logger.warning("reply failed replica=%s reason=%s", self.url, error)
            self.wake()
            raise
        finally:
            self.in_flight -= 1

    async def tend(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.look_every_s):
                    await self._wake.wait()
            self._wake.clear()

    def wake(self) -> None:
        """Let the next look be now."""
        self._wake.set()

    def try_again(self, adapter: Adapter) -> None:
        """Forget that an adapter failed."""
        self._failed.pop(adapter, None)

    async def look(self) -> None:
        """Ask how it is and bring it to what is wanted. Never raises."""
        async with self._turn:
            with self._changes_told():
                try:
                    await self._wire.check_health()
                    models = await self._wire.models()
                    self._compare(models)
                    if self.trouble is not None:
                        await self._examine()
                except ReplicaError as error:
                    self._is_away(str(error))
                    return
                except Exception:
                    logger.exception("could not look at replica=%s", self.url)
                    self._is_away("its answers cannot be read; the log says where")
                    return
                self._is_there()
            for policy in self._wanted().values():
                with self._changes_told():
                    await self._bring(policy, models)
            for sha256 in self._own - self._wanted().keys():
                if sha256 not in self._wanted():  # it may have come back during the unload before
                    await self._unload(sha256)

    def _compare(self, models: dict[str, Served]) -> None:
        """Hold what is known against what the server lists."""
        bases = [name for name, served in models.items() if served.parent is None]
        wanted = self._settings.served_model
        if wanted and wanted not in bases:
            raise ReplicaRefusal(f"it serves no base model {wanted!r} (setting vllm.served_model), but {bases}")
        if not bases:
            raise ReplicaRefusal("it lists no base model")
        self._model = wanted or bases[0]
        self.longest_tokens = models[self._model].longest_tokens
        self._own = {sha256 for sha256 in self._own if _name_of(sha256) in models}
        self._ready = {adapter for adapter in self._ready if adapter is None or adapter in self._own}

    async def _examine(self) -> None:
        """Make sure, before a (re)started server gets a request, that it says what it is trusted to say.

        Its tokenizer must be ours: the ids of a prompt would mean something else to it. And its log-probabilities must
        be those of the model itself (`--logprobs-mode raw_logprobs`, vLLM's default). Drawn from a nucleus of one
        token, processed log-probabilities are exactly 0, and raw logits are often above it.
        """
        found = await self._wire.tokenize(self._model, PROBE_TEXT)
        if found is not None and found != self._base.probe_ids:
            raise ReplicaRefusal("its tokenizer is not that of policy.base_model; start it with the same model")
        logprobs = await self._probe(None, Sampling(temperature=1.0, top_p=1e-6, max_tokens=4, seed=0))
        if not all(logprob <= 0 for logprob in logprobs) or not any(logprob < 0 for logprob in logprobs):
            raise ReplicaRefusal(
                "its log-probabilities are not the model's own; start vLLM with --logprobs-mode raw_logprobs"
            )
        self._ready.add(None)

    async def _bring(self, policy: PolicyRef, models: dict[str, Served]) -> None:
        """Load an adapter and warm it; what fails is noted and tried again, ever more seldom."""
        adapter = policy.adapter_sha256
        failed = self._failed.get(adapter)
        if adapter in self._ready or (failed is not None and time.monotonic() < failed.again_at):
            return
        try:
            if adapter is not None:
                await asyncio.to_thread(self._base.admit, policy)  # a damaged disk is noticed before vLLM reads it
                if _name_of(adapter) not in models:
                    await self._wire.load(_name_of(adapter), self._path_of(policy))
                self._own.add(adapter)
            await self._probe(adapter, Sampling(temperature=0.0, max_tokens=1))
        except (ReplicaError, AdapterRefused) as error:
            times = failed.times + 1 if failed else 1
            again_at = time.monotonic() + min(_LONGEST_RETRY_S, 0.5 * 2**times)
            refused = isinstance(error, AdapterRefused | ReplicaRefusal)
            self._failed[adapter] = _Failed(str(error), refused, times, again_at)
            logger.warning("not loaded replica=%s adapter=%s reason=%s", self.url, _short(adapter), error)
            return
        self._failed.pop(adapter, None)
        self._ready.add(adapter)
        logger.info("ready replica=%s adapter=%s", self.url, _short(adapter))

    async def _unload(self, sha256: str) -> None:
        self._ready.discard(sha256)
        try:
            await self._wire.unload(_name_of(sha256))
        except ReplicaRefusal as error:  # vLLM had pushed it out of its cache by itself: only the name is left
            logger.warning("not unloaded replica=%s adapter=%s reason=%s", self.url, _short(sha256), error)
        except ReplicaError:
            return  # the next look tries again
        self._own.discard(sha256)
        logger.info("unloaded replica=%s adapter=%s", self.url, _short(sha256))

    async def _probe(self, adapter: Adapter, sampling: Sampling) -> list[float]:
        """Draw a few tokens to the probe text; return their log-probabilities."""
        drawing = self._wire.draw(
            self._name(adapter),
            self._base.probe_ids,
            sampling,
            self._base.end_ids,
            silence_s=self._settings.load_timeout_s,
        )
        async with contextlib.aclosing(drawing):
            return [logprob async for drawn in drawing for logprob in drawn.logprobs_nats]

    def _name(self, adapter: Adapter) -> str:
        return self._model if adapter is None else _name_of(adapter)

    def _path_of(self, policy: PolicyRef) -> str:
        folder = self._settings.adapters_dir.rstrip("/")
        return f"{folder}/{policy.adapter_sha256}" if folder else str(policy.adapter_dir)

    def _is_away(self, reason: str) -> None:
        if reason != self.trouble:
            logger.warning("replica away replica=%s reason=%s", self.url, reason)
        self.trouble = reason

    def _is_there(self) -> None:
        if self.trouble is not None:
            logger.info("replica there replica=%s", self.url)
        self.trouble = None

    @contextlib.contextmanager
    def _changes_told(self) -> Iterator[None]:
        before = (self.trouble is None, set(self._ready))
        try:
            yield
        finally:
            if before != (self.trouble is None, self._ready):
                self._on_change()


def _name_of(sha256: str) -> str:
    """A name is never used for other weights: it is their hash."""
    return f"policy-{sha256}"


def _short(adapter: Adapter) -> str:
    return "none" if adapter is None else adapter[:12]
