"""What `thumbwise doctor` looks at. Each look is a function that never raises: what it cannot see is a finding too."""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thumbwise.cli.connection import SERVER_FILE, TOKEN_FILE, connect, server_url
from thumbwise.cli.finding import Finding
from thumbwise.cli.say import Failure

if TYPE_CHECKING:
    from thumbwise.config import Settings

SMALLEST_FREE_BYTES = 2 * 2**30
"""A round needs room for an adapter, its folder and the database's log; the bundled model for its conversion."""
PACKAGES = {
    "store": ("sqlalchemy", "alembic", "numpy"),
    "serving": ("torch", "transformers", "fastapi", "uvicorn"),
    "trainer": ("trl", "peft", "apscheduler"),
    "demo": ("matplotlib",),
    "sign-in": ("authlib", "httpx2"),
}


def examine(data_dir: Path, config_file: Path | None) -> list[Finding]:
    """Look at everything, in the order in which things go wrong."""
    findings = [_python(), *_packages()]
    settings, found = _settings(data_dir, config_file)
    findings += found
    findings += [_folder(data_dir), _disk(data_dir), _memory(), *_token(data_dir)]
    if settings is not None:
        findings += [_model(settings), _device(settings), *_replicas(settings), *_store(settings)]
    try:
        from thumbwise.cli.examine_safety import examine_safety

        findings += examine_safety(data_dir, settings, os.environ)
    except ImportError as error:
        findings.append(Finding("safety", "note", f"not looked at: {error}", "pip install 'thumbwise[all]'"))
    return [*findings, _server(data_dir)]


def _python() -> Finding:
    return Finding("python", "ok", f"{sys.version.split()[0]} on {os.cpu_count()} cores")


def _packages() -> Iterator[Finding]:
    for extra, names in PACKAGES.items():
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(f"packages for {extra}", "note", f"missing: {', '.join(missing)}",
                          f"pip install 'thumbwise[{extra}]', if this machine shall do that part")  # fmt: skip
        else:
            yield Finding(f"packages for {extra}", "ok", "installed")


def _settings(data_dir: Path, config_file: Path | None) -> tuple["Settings | None", list[Finding]]:
    try:
        from thumbwise.config import ConfigError, load_settings
    except ImportError as error:
        return None, [Finding("settings", "bad", f"cannot be read: {error}", "pip install 'thumbwise[all]'")]
    try:
        settings = load_settings(data_dir, config_file)
    except ConfigError as error:
        return None, [Finding("settings", "bad", problem) for problem in error.problems]
    source = str(settings.config_file or "defaults and environment")
    return settings, [Finding("settings", "ok", f"{source}, {len(settings.origins)} differ from the defaults")]


def _folder(data_dir: Path) -> Finding:
    if not data_dir.exists():
        return Finding("data folder", "note", f"{data_dir} is not there yet", "thumbwise up makes it")
    if not os.access(data_dir, os.W_OK):
        return Finding("data folder", "bad", f"{data_dir} cannot be written", "give its owner, or choose --data DIR")
    return Finding("data folder", "ok", str(data_dir.resolve()))


def _disk(data_dir: Path) -> Finding:
    place = data_dir if data_dir.exists() else Path.cwd()
    free_bytes = shutil.disk_usage(place).free
    found = f"{free_bytes / 2**30:.1f} GiB free"
    if free_bytes < SMALLEST_FREE_BYTES:
        return Finding("disk", "bad", found, "make room: at least 2 GiB")
    return Finding("disk", "ok", found)


def _memory() -> Finding:
    try:
        free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding("memory", "note", "unknown on this system")
    return Finding(
        "memory", "ok", f"{free_bytes / 2**30:.1f} GiB free (the bundled model serves and trains in about 4)"
    )


def _token(data_dir: Path) -> Iterator[Finding]:
    path = data_dir / TOKEN_FILE
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding("admin token", "bad", f"{path} may be read by others (mode {mode:04o})", f"chmod 600 {path}")
    else:
        yield Finding("admin token", "ok", f"{path}, readable by its owner alone")


def _model(settings: "Settings") -> Finding:
    wanted = settings.policy.base_model
    if wanted.startswith("bundled:"):
        place = settings.models_dir / wanted.removeprefix("bundled:")
        if (place / "config.json").is_file():
            return Finding("base model", "ok", f"{wanted} in {place}")
        return Finding("base model", "note", f"{wanted} is not there yet", "the first start fetches it (93 MB)")
    place = Path(wanted).expanduser()
    if place.is_dir() and not (place / "config.json").is_file():
        return Finding(
            "base model", "bad", f"{place} has no config.json", "point policy.base_model at a model's folder"
        )
    return Finding("base model", "ok", wanted)


def _device(settings: "Settings") -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", "note", "unknown without torch")
    from serving.engine.devices import gpu_name

    if settings.policy.engine == "vllm":
        return Finding("device", "ok", "of the vLLM servers; rounds train on this machine's")
    gpu = gpu_name()
    if settings.policy.device == "cuda" and gpu is None:
        return Finding("device", "bad", "policy.device is cuda, but torch sees no GPU", "set it to auto or cpu")
    return Finding("device", "ok", gpu or f"CPU, torch {importlib.metadata.version('torch')}")


def _replicas(settings: "Settings") -> Iterator[Finding]:
    if settings.policy.engine != "vllm":
        return
    import httpx

    for url in settings.vllm.replicas:
        try:
            status = httpx.get(f"{url}/health", trust_env=False, timeout=settings.vllm.answer_timeout_s).status_code
            found, is_well = f"{url} answers {status}", status == 200
        except httpx.HTTPError as error:
            found, is_well = f"{url} does not answer ({type(error).__name__})", False
        yield Finding(
            "vLLM server",
            "ok" if is_well else "bad",
            found,
            "" if is_well else "start it, or correct vllm.replicas; docs/vllm.md says with which options",
        )


def _store(settings: "Settings") -> Iterator[Finding]:
    url = settings.store.url
    path = settings.data_dir / "thumbwise.db"
    if url is not None and not url.startswith("sqlite"):
        yield Finding("store", "ok", f"{url.partition(':')[0]} (a start connects to it and says what is wrong)")
    elif path.exists():
        yield Finding("store", "ok", f"SQLite, {path.stat().st_size / 2**20:.1f} MiB")
    else:
        yield Finding("store", "note", "SQLite, empty as yet", "the first start makes it")
    yield from _schema(settings)


def _schema(settings: "Settings") -> Iterator[Finding]:
    from feedback_store.errors import StoreError
    from feedback_store.looking import look_at_schema

    try:
        look = look_at_schema(settings.store_url)
    except StoreError:
        return  # "database" says so
    if look.is_older:
        by_hand = settings.store.upgrade == "by_hand"
        do = "thumbwise backup, then thumbwise migrate" if by_hand else "thumbwise backup; the next start upgrades it"
        found = f"revision {look.present}, wanted {look.wanted}"
        yield Finding("schema", "bad" if by_hand else "note", found, do)


def _server(data_dir: Path) -> Finding:
    from thumbwise.client import ApiError, Unreachable
    from thumbwise.client.retries import Retries

    try:
        url = server_url(data_dir)
        client = connect(data_dir, None)
    except Failure as failure:
        return Finding("server", "bad", failure.message)
    client.retries = Retries(0)
    try:
        with client:
            client.ready()
    except Unreachable:
        if (data_dir / SERVER_FILE).exists():
            return Finding("server", "note", f"noted at {url}, but does not answer", "thumbwise up starts it again")
        return Finding("server", "note", "not running", "thumbwise up")
    except ApiError as error:
        return Finding("server", "bad", f"{url} answers, but is not ready: {error.body or error.message}")
    return Finding("server", "ok", f"ready at {url}")
