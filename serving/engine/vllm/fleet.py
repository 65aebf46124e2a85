"""All replicas together: the least busy one that can, and the next one when it cannot any more."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import httpx

from serving.engine import AdapterRefused, EngineUnavailable, PolicyRef, QueueFull
from serving.engine.vllm.base import GatewayBase
from serving.engine.vllm.replica import Adapter, Replica
from serving.engine.vllm.reply import Reply
from serving.engine.vllm.wire import AdapterMissing, ReplicaAway, ReplicaBusy, Wire
from serving.settings import VllmSettings

logger = logging.getLogger(__name__)

_PAUSE_S = 0.2
"""Between two rounds over replicas that could not."""


class Fleet:
    """The replicas of one engine. Made and used in the engine's loop; `serving` is read from other threads too."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base: GatewayBase,
        settings: VllmSettings,
        wanted: Callable[[], dict[Adapter, PolicyRef]],
    ) -> None:
        self._settings = settings
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.replicas = tuple(
            Replica(url, Wire(client, url, settings), base, settings, wanted, self._tell) for url in settings.replicas
        )

    def start(self) -> None:
        """Look after every replica from now on."""
        for replica in self.replicas:
            self._spawn(replica)

    async def stop(self) -> None:
        """Stop looking after them. Their adapters stay: the next start finds them warm."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Let every replica be brought to what is wanted now."""
        for replica in self.replicas:
            replica.wake()

    def serving(self, adapter: Adapter) -> list[Replica]:
        """Return the replicas that are there and have the adapter."""
        return [replica for replica in self.replicas if replica.serves(adapter)]

    async def bring(self, policy: PolicyRef) -> None:
        """Return when a replica serves the policy and the others do too, or have lagged for vllm.lag_timeout_s.

        Raises AdapterRefused if a replica refused it and none serves it, EngineUnavailable if none could be asked.
        """
        adapter = policy.adapter_sha256
        for replica in self.replicas:
            replica.try_again(adapter)
        pending = {self._keep(asyncio.create_task(replica.look())) for replica in self.replicas}
        while pending and not self.serving(adapter):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if self.serving(adapter):
            if pending:  # those that lag go on loading, and get requests when they are done
                await asyncio.wait(pending, timeout=self._settings.lag_timeout_s)
            return
        reasons = [found for replica in self.replicas if (found := replica.why_not(adapter))]
        for reason, refused in reasons:
            if refused:
                raise AdapterRefused(f"version {policy.version}: {reason}")
        raise EngineUnavailable(f"no vLLM server could load version {policy.version}")

    async def draw(self, reply: Reply) -> None:
        """Draw a reply to its end, at as many replicas as it takes. Never of another policy.

        Raises QueueFull if all that could are full, EngineUnavailable if none could within vllm.failover_s.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.failover_s
        tried: set[Replica] = set()
        full: ReplicaBusy | None = None
        while True:
            replica = self._choose(reply.adapter, tried)
            if replica is None:
                if full is not None and not reply.token_ids:
                    raise QueueFull(full.retry_after_s)
                if loop.time() >= deadline:
                    raise EngineUnavailable(f"no vLLM server serves version {reply.policy.version}")
                tried.clear()
                await self._wait(min(_PAUSE_S, deadline - loop.time()))
                continue
            tried.add(replica)
            try:
                drawing = replica.draw(reply.adapter, *reply.rest())
                async with contextlib.aclosing(drawing):
                    async for drawn in drawing:
                        deadline = loop.time() + self._settings.failover_s
                        if reply.take(drawn):
                            return
            except ReplicaBusy as error:
                full = error
            except (ReplicaAway, AdapterMissing):
                logger.info("reply goes on elsewhere version=%d tokens=%d", reply.policy.version, len(reply.token_ids))

    def _choose(self, adapter: Adapter, tried: set[Replica]) -> Replica | None:
        """The replica with the fewest replies of ours, leaving out those that have just failed."""
        able = [replica for replica in self.serving(adapter) if replica not in tried and not replica.paused]
        return min(able, key=lambda replica: (replica.in_flight, replica.begun), default=None)

    async def _wait(self, at_most_s: float) -> None:
        """Wait until a replica came, went or loaded something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _spawn(self, replica: Replica) -> None:
        self._keep(asyncio.create_task(replica.tend()))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """A loop holds its tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
