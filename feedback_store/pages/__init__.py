"""Serve a page of ours: one HTML file and its modules, out of memory, under a policy that lets nothing else in.

Decisions: no bundler, no third-party file. A page's files (and the shared ones in this folder) are
read once when the app is built, and served under a path that holds their common digest: relative imports between
modules inherit it, so a browser may keep every file for ever and an upgrade can never mix two releases. The page itself
is never cached. Settings reach the script as JSON in one attribute of `<html>`, because an inline script would need a
hole in the Content-Security-Policy. Trusted Types make `innerHTML` throw in browsers that know them.
"""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, StrictUndefined

from feedback_store.pages.language import COOKIE, LANGUAGES, NAMES, Language, catalogue, choose, script_messages

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ASSET_SUFFIXES = (".css", ".js", ".svg")


def mount_page(app: FastAPI, path: str, name: str, folder: Traversable, config: Mapping[str, object]) -> None:
    """Add `folder`/page.html at `path`, and its assets beside the shared ones under `/assets/NAME-DIGEST/`.

    page.html is a template (Jinja2, escaping on) with `assets`, the JSON `config`, `language`, `messages` (the texts
    that its scripts show, as JSON) and `_`. Raises ValueError when a file of the page has the name of a shared one.
    """
    source = folder.joinpath("page.html").read_text(encoding="utf-8")
    assets = mount_assets(app, name, folder)
    documents = {language: _document(source, language, assets, config) for language in LANGUAGES}

    @app.get(path, include_in_schema=False, name=f"page-{name}")
    async def page(request: Request) -> Response:
        language = choose(request.cookies.get(COOKIE), request.headers.get("accept-language", ""))
        headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"}
        return Response(documents[language], media_type="text/html; charset=utf-8", headers=headers)


def _document(source: str, language: Language, assets: str, config: Mapping[str, object]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, extensions=["jinja2.ext.i18n"])
    environment.install_gettext_translations(catalogue(language), newstyle=True)  # type: ignore[attr-defined]
    messages = json.dumps(script_messages(language), ensure_ascii=False)
    values = {"assets": assets, "config": json.dumps(config), "language": language, "languages": NAMES}
    values["messages"] = messages
    return environment.from_string(source).render(values)


def mount_assets(app: FastAPI, name: str, folder: Traversable) -> str:
    """Serve the files of `folder` beside the shared ones, and return the path under which they are.

    Raises ValueError when a file has the name of a shared one (one of them would silently be hidden).
    """
    shared = _assets_of(resources.files(__name__))
    own = _assets_of(folder)
    if clash := shared.keys() & own.keys():
        raise ValueError(f"page {name!r}: {sorted(clash)} are names of shared files; rename the page's own")
    assets = shared | own
    bundles: dict[str, dict[str, bytes]] | None = getattr(app.state, "page_bundles", None)
    if bundles is None:
        bundles = app.state.page_bundles = {}
        _serve_bundles(app, bundles)
    bundle = f"{name}-{_digest(assets)}"
    bundles[bundle] = assets
    return f"/assets/{bundle}"


def _serve_bundles(app: FastAPI, bundles: Mapping[str, Mapping[str, bytes]]) -> None:
    @app.get("/assets/{bundle}/{file}", include_in_schema=False, name="assets")
    async def asset(bundle: str, file: str) -> Response:
        content = bundles.get(bundle, {}).get(file)
        if content is None:
            return Response("no such file", status_code=404, media_type="text/plain", headers=dict(SECURITY_HEADERS))
        headers = {**SECURITY_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=_media_type(file), headers=headers)


def _assets_of(folder: Traversable) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(ASSET_SUFFIXES)}


def _digest(assets: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for file in sorted(assets):
        digest.update(file.encode() + b"\0" + hashlib.sha256(assets[file]).digest())
    return digest.hexdigest()[:12]


def _media_type(file: str) -> str:
    # Spelled out, because a machine's mime table may call .js text/plain, which nosniff then refuses to run.
    known = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    suffix = "." + file.rpartition(".")[2]
    return known.get(suffix) or mimetypes.guess_type(file)[0] or "application/octet-stream"
