"""How a bot's process runs: until SIGTERM or Ctrl-C, in a loop of its own."""

import asyncio
import signal
from collections.abc import Awaitable, Callable


def run_until_signalled(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work`, which ends soon after the event that it is given is set. Raises what it raises."""

    async def until_signalled() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await work(stopping)

    asyncio.run(until_signalled())
