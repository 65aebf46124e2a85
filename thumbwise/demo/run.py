"""A demo from its start to its files: a server of its own, the loop, the table, the picture, the JSON."""

import asyncio
import json
import os
from pathlib import Path

import httpx
from rich.console import Console

from thumbwise.client import AsyncThumbwise
from thumbwise.demo.child import Server
from thumbwise.demo.loop import Loop, Story
from thumbwise.demo.picture import save_picture
from thumbwise.demo.plan import DemoPlan
from thumbwise.demo.progress import Progress
from thumbwise.demo.results import as_json, print_results

TIMEOUT = httpx.Timeout(30.0, read=600.0, pool=None)
"""A reply may wait behind a round on two cores; a place among our own connections may take as long as it likes."""


def run_demo(
    plan: DemoPlan,
    data_dir: Path,
    *,
    console: Console,
    models_dir: Path | None = None,
    picture: Path | None = None,
    json_out: Path | None = None,
) -> Story:
    """Run a demo over the empty folder `data_dir`, print its results to `console` and write the files asked for.

    Raises DemoFailed when the server or a round fails, and what the client raises.
    """
    with Progress(console) as progress:
        progress.note("starting a server of its own")
        settings = {"training.threads": _cores()} | dict(plan.settings)  # nobody is kept waiting by a round here
        with Server(data_dir, settings, models_dir=models_dir, threads=plan.threads) as server:
            progress.note(f"watch it at {server.url}/dashboard (token: {data_dir / 'admin.token'})")
            story = asyncio.run(_run_loop(plan, server, progress))
    print_results(plan, story, console)
    if picture is not None:
        save_picture(plan, story, picture)
        console.print(f"picture: {picture}", markup=False)
    if json_out is not None:
        json_out.parent.mkdir(parents=True, exist_ok=True)
        json_out.write_text(json.dumps(as_json(plan, story), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        console.print(f"results: {json_out}", markup=False)
    console.print(f"took {story.seconds / 60:.1f} minutes")
    return story


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _run_loop(plan: DemoPlan, server: Server, progress: Progress) -> Story:
    async with AsyncThumbwise(server.url, server.token, timeout=TIMEOUT) as client:
        return await Loop(plan, server, client, progress).run()
