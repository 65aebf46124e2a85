"""A provider of accounts on a real port, as strict as the real ones: it checks the client, the redirect, PKCE, and that
a code is used once. Who is asked to agree is `account`; everything that was asked of it stands in `asked`.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx

CLIENT_ID, CLIENT_SECRET = "4711", "hush-hush-of-the-tests"
CONSENT, TOKEN, ACCOUNT = "consent", "token", "account"
PATHS = {
    "/login/oauth/authorize": CONSENT, "/login/oauth/access_token": TOKEN, "/user": ACCOUNT,
    "/oauth2/authorize": CONSENT, "/api/oauth2/token": TOKEN, "/api/v10/users/@me": ACCOUNT,
}  # fmt: skip


@dataclass(slots=True)
class FakeProvider:
    """GitHub's and Discord's addresses in one."""

    url: str
    account: dict[str, Any] = field(default_factory=lambda: {"id": 77, "login": "octo", "username": "octo"})
    broken: bool = False
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def consent(self, query: str) -> str | None:
        """Return where a browser is sent back to, once its person agreed; None for a request no provider takes."""
        asked = dict(parse_qsl(query))
        if asked.get("client_id") != CLIENT_ID or asked.get("code_challenge_method") != "S256":
            return None
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, body: str) -> tuple[int, dict[str, Any]]:
        """Exchange a code: once, by its client, with its verifier. GitHub says errors with status 200."""
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        code = self.codes.pop(sent.get("code", ""), None)
        if (sent.get("client_id"), sent.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return 200, {"error": "incorrect_client_credentials"}
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            code is None
            or code["code_challenge"] != challenge
            or code["redirect_uri"] != sent.get("redirect_uri")
            or sent.get("grant_type") != "authorization_code"
        ):
            return 200, {"error": "bad_verification_code"}
        token = secrets.token_urlsafe(16)
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "bearer", "scope": ""}


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """Run a provider."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            what = PATHS.get(parts.path)
            provider.asked.append(parts.path)
            if provider.broken:
                self._say(503, b"<html>down</html>")
            elif what == CONSENT and (back := provider.consent(parts.query)):
                self.send_response(302)
                self.send_header("location", back)
                self.send_header("content-length", "0")
                self.end_headers()
            elif what == ACCOUNT and self.headers.get("authorization", "").partition(" ")[2] in provider.tokens:
                self._say(200, json.dumps(provider.account).encode())
            else:
                self._say(401, b"{}")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            provider.asked.append(self.path)
            if provider.broken or PATHS.get(self.path) != TOKEN:
                self._say(503, b"<html>down</html>")
            else:
                status, answer = provider.token(body)
                self._say(status, json.dumps(answer).encode())

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider = FakeProvider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def agree(url: str) -> str:
    """Do what a browser does at the provider, and return where it is sent back to."""
    answer = httpx.get(url, follow_redirects=False, trust_env=False)
    assert answer.status_code == 302, (answer.status_code, url)
    return answer.headers["location"]
