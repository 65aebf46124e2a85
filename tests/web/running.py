"""The real application over a real store on a free port, with a scripted model: for browser tests and for pictures."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from bot.web import WebSettings, mount_web_chat
from feedback_store.dashboard import DashboardParts, mount_dashboard
from feedback_store.store import Store
from feedback_store.versions import bootstrap
from serving.api.app import create_app
from serving.api.context import ApiContext
from tests.databases import url_of
from tests.web.scripted_engine import ScriptedEngine
from trainer.canary_course import canary_course
from trainer.preview import preview
from trainer.readiness import readiness
from trainer.settings import CanarySettings, GateSettings, LoraSettings, RoundSettings, TrainingSettings

ADMIN_TOKEN = "an admin token of the tests"


@dataclass(slots=True)
class Running:
    """A running server and its parts."""

    url: str
    context: ApiContext
    engine: ScriptedEngine
    parts: DashboardParts

    @property
    def store(self) -> Store:
        return self.context.store


@contextmanager
def running(data: Path, base_model: str = "invented-base") -> Iterator[Running]:
    """Serve chat, API and dashboard over a new store in `data`."""
    store = Store.open(url_of(data))
    store.write(bootstrap, base_model)
    engine = ScriptedEngine()
    context = ApiContext(store=store, engine=engine, rater_key=b"k" * 32, admin_token=ADMIN_TOKEN, data_dir=data)
    app = create_app(context)
    mount_web_chat(app, WebSettings(compare_share=0))
    parts = dashboard_parts(context)
    mount_dashboard(app, parts)
    server, thread, port = serve(app)
    parts.stopping = lambda: server.should_exit
    try:
        yield Running(f"http://127.0.0.1:{port}", context, engine, parts)
    finally:
        server.should_exit = True
        thread.join(30)


def dashboard_parts(context: ApiContext) -> DashboardParts:
    """The dashboard over the trainer's own readiness and dry run, with its default settings."""
    rounds, training, gate = RoundSettings(), TrainingSettings(), GateSettings()
    sections = {"rounds": rounds, "training": training, "lora": LoraSettings(), "gate": gate}

    def look_ahead(wish: Mapping[str, Any]) -> dict[str, Any]:
        return context.store.read(preview, wish, rounds=rounds, training=training, gate=gate)

    return DashboardParts(
        context.store,
        context.admin_token,
        readiness=lambda: context.store.read(readiness, rounds, training).as_dict(),
        preview=look_ahead,
        defaults={name: section.model_dump(mode="json") for name, section in sections.items()},
        serving=lambda: {
            "version": context.engine.live.version,
            "loaded": context.engine.loaded_versions,
            "uptime_s": 60,
        },
        on_pointer_moved=lambda: context.on_pointer_moved(),
        canary_course=lambda: context.store.read(canary_course, CanarySettings()),
        patience_s=20,
    )


def serve(app: FastAPI) -> tuple[uvicorn.Server, threading.Thread, int]:
    """Run `app` on a free port in a thread until its `should_exit`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", timeout_graceful_shutdown=2))
    started = threading.Event()
    run_startup = server.startup

    async def startup(sockets: Any = None) -> None:
        await run_startup(sockets=sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    if not started.wait(30):
        raise TimeoutError("the test's server did not start within 30 s")
    return server, thread, server.servers[0].sockets[0].getsockname()[1]
