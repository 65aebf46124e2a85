"""The real application over a real store, with the engine of words: `python -m benchmarks._word_server --data DIR`.

Prints one line of JSON, {"port": …}, when it listens. What it serves is `create_app` as in production; only the model
is missing, so that it starts at once and a vote's cost is the vote's alone. With --dashboard it serves the pages too,
and the line also has the `cookie` of an operator who is signed in; with --trainer it can say what a trainer beside it
would (readiness, the canary's report).
"""

import argparse
import json
from pathlib import Path

from fastapi import FastAPI

from benchmarks._word_engine import WordEngine
from feedback_store.raters import load_or_create_key
from feedback_store.settings import StoreSettings
from feedback_store.store import Store
from feedback_store.versions import bootstrap, live_or_none
from serving.api import ApiContext, create_app
from serving.api.server import listen, server_of
from serving.settings import ServingSettings

ADMIN_TOKEN = "word-server"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the store")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--url", default="", help="store; none: SQLite in the folder")
    parser.add_argument("--dashboard", action="store_true", help="serve the dashboard, with an operator signed in")
    parser.add_argument("--trainer", action="store_true", help="answer for a trainer, though none runs")
    parser.add_argument("--votes-per-minute", type=int, default=0, help="of one rater; 0: as many as come")
    parser.add_argument("--group-commit-max", type=int, default=StoreSettings().group_commit_max)
    parser.add_argument("--busy-timeout-s", type=float, default=StoreSettings().busy_timeout_s)
    parser.add_argument("--step-s", type=float, default=0.0, help="pause before each word of a reply")
    parser.add_argument("--words", type=int, default=8, help="words of a reply")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    store = Store.open(
        arguments.url or f"sqlite:///{arguments.data / 'thumbwise.db'}",
        settings=StoreSettings(group_commit_max=arguments.group_commit_max, busy_timeout_s=arguments.busy_timeout_s),
    )
    if store.read(live_or_none) is None:  # a seeded store has its versions
        store.write(bootstrap, "words")
    settings = ServingSettings(port=arguments.port, drain_timeout_s=5, votes_per_minute=arguments.votes_per_minute)
    context = ApiContext(
        store=store,
        engine=WordEngine(length=arguments.words, step_s=arguments.step_s),
        rater_key=load_or_create_key(arguments.data / "rater.key"),
        admin_token=ADMIN_TOKEN,
        data_dir=arguments.data,
        serving=settings,
    )
    if arguments.trainer:
        _answer_for_a_trainer(context)
    app = create_app(context)
    told: dict[str, object] = {}
    if arguments.dashboard:
        told["cookie"] = _mount_dashboard(app, store)
    listener = listen(settings)
    listener.listen(1024)
    print(json.dumps(told | {"port": listener.getsockname()[1]}), flush=True)
    server_of(app, settings).run(sockets=[listener])


def _answer_for_a_trainer(context: ApiContext) -> None:
    from trainer.canary_judge import canary_report
    from trainer.method_settings import RewardSettings
    from trainer.readiness import readiness
    from trainer.settings import CanarySettings, RoundSettings, TrainingSettings

    store, asked = context.store, (RoundSettings(), TrainingSettings(), RewardSettings())
    context.readiness = lambda: store.read(readiness, *asked).as_dict()
    context.canary_report = lambda: store.read(canary_report, CanarySettings())


def _mount_dashboard(app: FastAPI, store: Store) -> str:
    from feedback_store.access import sessions, users
    from feedback_store.dashboard import DashboardParts, mount_dashboard
    from feedback_store.dashboard.visit import cookie_name
    from trainer.readiness import readiness
    from trainer.settings import RoundSettings, TrainingSettings

    rounds, training = RoundSettings(), TrainingSettings()
    parts = DashboardParts(
        store, ADMIN_TOKEN, readiness=lambda: store.read(readiness, rounds, training).as_dict(), serving=dict
    )
    mount_dashboard(app, parts)
    person = store.read(users.by_name, "otto") or store.write(users.add_user, "otto", "operator")
    return f"{cookie_name(parts)}={store.write(sessions.begin_session, person.user_id, 1.0)}"


if __name__ == "__main__":
    main()
