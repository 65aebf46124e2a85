"""The parts put together: store, engine, API, pages and trainer as one process. The one place that knows them all.

Order counts. Up: the port is bound first (a taken one is known before a model is loaded), then the store, the base
model, the version that the pointer names, the API; the address is noted last. Down: the server stops taking requests
and lets replies end, the training process is told to stop (its round is taken up again at the next start), then the
engine and the store are closed.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

from thumbwise.cli.data_folder import (
    load_or_create_token,
    make_data_dir,
    rater_keys,
    remove_server_file,
    write_server_file,
)
from thumbwise.cli.logs import log_to
from thumbwise.cli.say import Failure, to_stderr
from thumbwise.cli.threads import engine_threads, quiet_openmp

if TYPE_CHECKING:
    from feedback_store.store import Store
    from serving.api.metrics import ApiMetrics
    from serving.engine import PolicyRef
    from serving.engine.vllm.base import GatewayBase
    from serving.engine.weights import BaseWeights
    from serving.policies import PolicyFollower
    from thumbwise.config import Settings
    from trainer.context import TrainerContext

log = logging.getLogger(__name__)


def run_server(settings: "Settings", *, with_trainer: bool, verbose: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises Failure and the errors of the parts, before anything is served."""
    from serving.api.metrics import ApiMetrics
    from serving.telemetry import telemetry_from

    quiet_openmp()
    make_data_dir(settings.data_dir)
    log_to(settings.data_dir / "logs", verbose)
    with contextlib.ExitStack() as parts, _ended_by_signals():
        listener = parts.enter_context(contextlib.closing(_listen(settings)))
        store = parts.enter_context(open_store(settings))
        _keep_overwriting(settings, store, parts)
        base = _open_base(settings)
        token, token_is_new = _admin_token(settings)
        metrics = ApiMetrics()
        engine, follower = _open_engine(settings, store, base, metrics, parts)
        telemetry = telemetry_from(os.environ)
        parts.callback(telemetry.close)
        context = _context(settings, store, engine, follower, token)
        context.metrics, context.telemetry = metrics, telemetry
        if settings.policy.engine == "torch" and settings.duels.show == "auto":
            context.duel_rewards = _duel_rewards(settings, store, base)
        if with_trainer:
            trainer = _trainer(settings, store, base.directory, base.fingerprint)
            trainer.prepare_version = follower.prepare
            trainer.on_pointer_moved = follower.pointer_moved
            if settings.policy.engine == "torch":
                trainer.on_training = _sharing_cores(settings, engine)
            _start_trainer(trainer, parts)
        app = _app(settings, context)
        url = _url_of(listener)
        listener.listen(128)  # said to be up from here on: a client that is quick waits, and is not refused
        write_server_file(settings.data_dir, url)
        parts.callback(remove_server_file, settings.data_dir)
        _banner(settings, url, token if token_is_new else None)
        parts.callback(to_stderr().print, "stopping …")
        _serve(app, settings, listener)


def run_trainer(settings: "Settings", *, verbose: bool = False) -> None:
    """Run the clock and the rounds until SIGTERM or Ctrl-C. The servers' engines follow the pointer by themselves."""
    from feedback_store import versions
    from serving.engine.base_model import fingerprint

    quiet_openmp()
    make_data_dir(settings.data_dir)
    log_to(settings.data_dir / "logs", verbose)
    with contextlib.ExitStack() as parts, _ended_by_signals():
        store = parts.enter_context(open_store(settings))
        base_dir = _base_dir(settings)
        base_model = fingerprint(base_dir)
        store.write(versions.bootstrap, base_model)
        _start_trainer(_trainer(settings, store, base_dir, base_model), parts)
        to_stderr().print(f"rounds run here (schedule: {settings.rounds.schedule or 'by hand'}). Stop with Ctrl-C.")
        signal.pause()


def _trainer(settings: "Settings", store: "Store", base_dir: Path, base_model: str) -> "TrainerContext":
    """What rounds work with; a server beside them hooks itself in before they start."""
    from trainer.context import TrainerContext

    return TrainerContext(
        store=store,
        data_dir=settings.data_dir,
        base_model_dir=base_dir,
        base_model=base_model,
        policy=settings.policy,
        rounds=settings.rounds,
        training=settings.training,
        lora=settings.lora,
        gate=settings.gate,
        reward=settings.reward,
        online=settings.online,
        canary=settings.canary,
        trust=settings.trust,
        retention=settings.retention,
    )


def _start_trainer(context: "TrainerContext", parts: contextlib.ExitStack) -> None:
    """Start the clocks, the supervisor and the canary's judge; `parts` stops them."""
    from trainer.canary_judge import CanaryJudge
    from trainer.retention import RetentionClock
    from trainer.schedule import RoundClock
    from trainer.supervisor import Supervisor

    supervisor = Supervisor(context)
    clock = RoundClock(context, supervisor.wake)
    try:
        clock.start()
    except ValueError as error:
        raise Failure(f"the schedule of rounds cannot be used: {error}") from error
    parts.callback(clock.close)
    supervisor.start()
    parts.callback(supervisor.close)
    judge = CanaryJudge(context)
    judge.start()
    parts.callback(judge.close)
    retention = RetentionClock(context)
    retention.start()
    parts.callback(retention.close)


def open_store(settings: "Settings") -> "Store":
    """Open the store that the settings name, and finish a restore of it that was cut short."""
    from feedback_store.backup.restoring import finish_restore
    from feedback_store.errors import Conflict
    from feedback_store.store import Store

    try:
        store = Store.open(settings.store_url, settings=settings.store)
    except Conflict as error:
        raise Failure(
            f"{error}\nIs another server running over {settings.data_dir}? One process writes a SQLite file; for "
            "several, set THUMBWISE_STORE_URL to a PostgreSQL."
        ) from error
    if finish_restore(store, settings.data_dir):
        to_stderr().print("finished a restore that was cut short: its files are in their places")
    return store


def _keep_overwriting(settings: "Settings", store: "Store", parts: contextlib.ExitStack) -> None:
    """See to it that what erasures delete is gone from the database's files too; `parts` ends it."""
    from feedback_store.overwrite_keeper import OverwriteKeeper

    keeper = OverwriteKeeper(store, settings.privacy.rewrite_mib * 2**20)
    keeper.start()
    parts.callback(keeper.close)


def _listen(settings: "Settings") -> socket.socket:
    from serving.api.server import listen

    try:
        listener = listen(settings.serving)
    except OSError as error:
        where = f"{settings.serving.host} port {settings.serving.port}"
        raise Failure(
            f"cannot listen at {where}: {error.strerror}; choose another with --port (0: any free)"
        ) from error
    return listener


def _url_of(listener: socket.socket) -> str:
    """The address to open in a browser: one of this machine where the server listens at all of them."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def _admin_token(settings: "Settings") -> tuple[str, bool]:
    if settings.admin_token is not None:
        return settings.admin_token, False
    return load_or_create_token(settings.data_dir)


def _base_dir(settings: "Settings") -> Path:
    """Find the base model, fetching the bundled one the first time, with its steps shown."""
    from serving.engine.base_model import resolve_base_model

    console = to_stderr()
    with console.status("looking for the base model …") as status:

        def step(what: str) -> None:
            status.update(f"{what} …")
            if not console.is_terminal:
                console.print(what)

        return resolve_base_model(settings.policy.base_model, settings.models_dir, step)


def _open_base(settings: "Settings") -> "BaseWeights | GatewayBase":
    """Open the base model; where vLLM draws the replies, its weights stay closed here."""
    directory = _base_dir(settings)
    with to_stderr().status(f"opening {directory.name} …"):
        if settings.policy.engine == "vllm":
            from serving.engine.vllm.base import GatewayBase

            return GatewayBase(directory, settings.policy)
        from serving.engine.weights import BaseWeights

        return BaseWeights(directory, settings.policy)


def _make_engine(settings: "Settings", base: "BaseWeights | GatewayBase", first: "PolicyRef") -> Any:
    """Start the engine that policy.engine names. Raises AdapterRefused."""
    if settings.policy.engine == "vllm":
        from serving.engine.vllm.base import GatewayBase
        from serving.engine.vllm.blank import blank_policy
        from serving.engine.vllm.engine import VllmEngine

        assert isinstance(base, GatewayBase)
        to_stderr().print(f"vLLM draws the replies: {', '.join(settings.vllm.replicas)}")
        blank = blank_policy(base, settings.data_dir / "adapters")
        return VllmEngine(base, settings.serving, settings.vllm, first, settings.vllm_api_key, blank)
    from serving.engine.torch_engine import TorchEngine
    from serving.engine.weights import BaseWeights

    assert isinstance(base, BaseWeights)
    engine = TorchEngine(base, settings.serving, first)
    engine.use_threads(engine_threads(settings.serving.threads, training=False))
    return engine


def _sharing_cores(settings: "Settings", engine: Any) -> Callable[[bool], None]:
    """Give the training process room: while it runs the engine computes with one thread fewer."""

    def share(training: bool) -> None:
        engine.use_threads(engine_threads(settings.serving.threads, training=training))

    return share


def _open_engine(
    settings: "Settings",
    store: "Store",
    base: "BaseWeights | GatewayBase",
    metrics: "ApiMetrics",
    parts: contextlib.ExitStack,
) -> tuple[Any, "PolicyFollower"]:
    """Start the engine on the version that the store's pointer names.

    A version whose adapter is refused (a damaged disk) must not keep the chat from starting: the base model is served
    meanwhile, stamped as version 1, and the log says why.
    """
    from feedback_store import versions
    from serving.engine import AdapterRefused, PolicyRef
    from serving.policies import PolicyFollower, policy_of

    adapters_dir = settings.data_dir / "adapters"
    adapters_dir.mkdir(exist_ok=True, mode=0o700)
    store.write(versions.bootstrap, base.fingerprint)
    live = policy_of(store.read(versions.live_version), adapters_dir)
    try:
        engine = _make_engine(settings, base, live)
    except AdapterRefused as refusal:
        log.error("version refused at start version=%d reason=%s", live.version, refusal)
        to_stderr().print(f"[red]version {live.version} cannot be served:[/] {refusal}. The base model serves instead.")
        engine = _make_engine(settings, base, PolicyRef(1))
    parts.callback(engine.close, settings.serving.drain_timeout_s)
    follower = PolicyFollower(store, engine, adapters_dir, swap_took=metrics.swap_took)
    follower.start()
    parts.callback(follower.close)
    return engine, follower


def _context(settings: "Settings", store: "Store", engine: Any, follower: "PolicyFollower", token: str) -> Any:
    from serving.api import ApiContext
    from trainer.canary_judge import canary_report
    from trainer.readiness import readiness

    rater_key, *former = rater_keys(settings)
    return ApiContext(
        store=store,
        engine=engine,
        rater_key=rater_key,
        former_rater_keys=tuple(former),
        admin_token=token,
        data_dir=settings.data_dir,
        policy=settings.policy,
        serving=settings.serving,
        duels=settings.duels,
        privacy=settings.privacy,
        trust=settings.trust,
        readiness=lambda: store.read(readiness, settings.rounds, settings.training, settings.reward).as_dict(),
        on_pointer_moved=follower.pointer_moved,
        prepare_version=follower.prepare,
        canary=lambda: follower.canary,
        canary_report=lambda: store.read(canary_report, settings.canary),
        held_back_channels=settings.rounds.held_back_channels,
        replicas=engine.replicas if settings.policy.engine == "vllm" else None,
        extra_hosts=settings.serving.allowed_hosts,
        close_parts=False,
    )


def _duel_rewards(settings: "Settings", store: "Store", base: Any) -> Any:
    """What says which candidates a trusted reward model is least sure of; it opens one when there is one."""
    from trainer.duel_rewards import DuelRewards, open_reward

    opened = functools.partial(open_reward, settings.data_dir, base.directory, base.fingerprint, settings.policy)
    return DuelRewards(store, opened)


def _app(settings: "Settings", context: Any) -> Any:
    from bot.web import mount_web_chat
    from feedback_store.dashboard import mount_dashboard
    from serving.api import create_app

    app = create_app(context)
    mount_web_chat(app, settings.web)
    mount_dashboard(app, dashboard_parts(settings, context, app))
    return app


def dashboard_parts(settings: "Settings", context: Any, app: Any) -> Any:
    """What the dashboard asks of the engine and the trainer."""
    from feedback_store.dashboard import DashboardParts
    from feedback_store.records import Method
    from serving.engine import AdapterRefused
    from trainer.canary_course import canary_course
    from trainer.job import LOG_FILE
    from trainer.preview import preview

    def serving() -> dict[str, Any]:
        live, beside = context.live_policy(), context.canary()
        return {
            "version": live.version if live else None,
            "canary": beside.version if beside else None,
            "loaded": context.engine.loaded_versions,
            "uptime_s": time.monotonic() - context.started_at,
        }

    def look_ahead(wish: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return context.store.read(  # type: ignore[no-any-return]
                preview,
                wish,
                rounds=settings.rounds,
                training=settings.training,
                gate=settings.gate,
                reward=settings.reward,
            )
        except ValueError as error:
            return {"possible": False, "by_force": False, "reason": str(error)}

    def round_log(round_id: int) -> str | None:
        path = settings.data_dir / "rounds" / str(round_id) / LOG_FILE
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 16_384))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return None

    sections = ("rounds", "training", "lora", "gate")
    return DashboardParts(
        store=context.store,
        admin_token=context.admin_token,
        access=settings.access,
        readiness=context.readiness,
        preview=look_ahead,
        defaults={name: settings.section(name).model_dump(mode="json") for name in sections},
        methods=get_args(Method),
        round_log=round_log,
        serving=serving,
        canary_course=lambda: context.store.read(canary_course, settings.canary),
        prepare_version=context.prepare_version,
        on_pointer_moved=context.on_pointer_moved,
        conflicts=(AdapterRefused,),
        stopping=lambda: getattr(app.state, "is_stopping", lambda: False)() or context.stopping,
        providers=_sign_in_providers(settings),
    )


def _sign_in_providers(settings: "Settings") -> Mapping[str, Any]:
    """Where people may sign in beside their password. Raises Failure where what that needs is not installed."""
    from feedback_store.access.providers import providers_of

    found = providers_of(
        settings.sign_in_github, settings.github_client_secret, settings.sign_in_discord, settings.discord_client_secret
    )
    if found and importlib.util.find_spec("authlib") is None:
        named = " and ".join(f"[sign_in.{code}]" for code in found)
        raise Failure(f"{named} needs Authlib, which is not installed: pip install 'thumbwise[sign-in]'")
    return found


def _serve(app: Any, settings: "Settings", listener: socket.socket) -> None:
    from serving.api.server import server_of

    server_of(app, settings.serving).run(sockets=[listener])


def _banner(settings: "Settings", url: str, new_token: str | None) -> None:
    say = functools.partial(to_stderr().print, soft_wrap=True)
    say(f"\n[bold]Thumbwise is up.[/]  chat [link={url}]{url}[/link]   dashboard {url}/dashboard   API {url}/v1")
    if new_token is not None:
        say(f"admin token (kept in {settings.data_dir / 'admin.token'}, not shown again): [bold]{new_token}[/]")
        say(f"make the dashboard's first admin with it: {url}/dashboard/set-up")
    say("stop with Ctrl-C\n", style="dim")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM end the block like Ctrl-C does, so that the parts are closed in order.

    While it serves, uvicorn takes both signals itself, and raises them again when it has ended: by then there is
    nothing left to interrupt, and a second one during the clean-up must not cut it short.
    """
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
