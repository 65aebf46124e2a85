"""Providers of accounts: where GitHub and Discord ask for consent, and whose account a code stands for.

The authorization code flow (RFC 6749) with PKCE (RFC 7636), through Authlib, which is imported with the first sign-in
and belongs to the extra `sign-in`. Of the answer only the account's number is used; its name is shown once, and the
access token is dropped. Nothing is asked of a provider that has no client id in the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedback_store.access.accounts import NUMBER
from feedback_store.settings import DiscordSignInSettings, GithubSignInSettings

TIMEOUT_S = 10.0
MOST_NAME_CHARACTERS = 80


class ProviderFailed(Exception):
    """No account was proved. `away`: the provider did not answer as it should; else it refused the code."""

    def __init__(self, message: str, *, away: bool) -> None:
        super().__init__(message)
        self.away = away


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider with this server's client there. `code` is its word in addresses and tables."""

    code: str
    name: str
    client_id: str
    client_secret: str = field(repr=False)
    authorize_url: str
    token_url: str
    account_url: str
    scope: str
    name_key: str
    """Under which key of the account its readable name stands."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further parameters of the address where people agree."""


@dataclass(frozen=True, slots=True)
class ProvedAccount:
    """An account that whoever sits at the browser has just proved to be theirs."""

    provider: str
    subject: str
    name: str


def providers_of(
    github: GithubSignInSettings, github_secret: str | None, discord: DiscordSignInSettings, discord_secret: str | None
) -> dict[str, Provider]:
    """Return the providers that are set up, by code."""
    found = []
    if github.client_id and github_secret:
        oauth = f"{github.url}/login/oauth"
        found.append(
            Provider(
                "github", "GitHub", github.client_id, github_secret, f"{oauth}/authorize", f"{oauth}/access_token",
                f"{github.api_url}/user", scope="", name_key="login", extra={"allow_signup": "false"},
            )
        )  # fmt: skip
    if discord.client_id and discord_secret:
        found.append(
            Provider(
                "discord", "Discord", discord.client_id, discord_secret, f"{discord.url}/oauth2/authorize",
                f"{discord.url}/api/oauth2/token", f"{discord.url}/api/v10/users/@me", scope="identify",
                name_key="username", extra={"prompt": "none"},
            )
        )  # fmt: skip
    return {provider.code: provider for provider in found}


def consent_url(provider: Provider, *, redirect_uri: str, state: str, verifier: str) -> str:
    """Return the address where a person agrees to be recognised."""
    from authlib.oauth2.client import OAuth2Client

    protocol = OAuth2Client(None, **_client_of(provider, redirect_uri))  # words alone: it has no connection
    url, _ = protocol.create_authorization_url(
        provider.authorize_url, state=state, code_verifier=verifier, **provider.extra
    )
    return str(url)


async def account_of(provider: Provider, *, code: str, redirect_uri: str, verifier: str) -> ProvedAccount:
    """Return whose account `code` stands for. Raises ProviderFailed; no message of it holds a secret."""
    import httpx2
    from authlib.common.errors import AuthlibBaseError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    try:
        async with AsyncOAuth2Client(**_client_of(provider, redirect_uri), timeout=TIMEOUT_S) as client:
            await client.fetch_token(
                provider.token_url, grant_type="authorization_code", code=code, code_verifier=verifier
            )
            answer = await client.get(provider.account_url, headers={"Accept": "application/json"})
            answer.raise_for_status()
            account = answer.json()
    except AuthlibBaseError as error:
        raise ProviderFailed(f"{provider.name} refused the code: {str(error.error)[:60]}", away=False) from None
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        raise ProviderFailed(
            f"{provider.name} did not answer as it should: {type(error).__name__}", away=True
        ) from None
    return _account(provider, account)


def _account(provider: Provider, found: Any) -> ProvedAccount:
    subject = str(found.get("id", "")) if isinstance(found, dict) else ""
    if not NUMBER.fullmatch(subject):
        raise ProviderFailed(f"{provider.name} named no account", away=True)
    return ProvedAccount(provider.code, subject, str(found.get(provider.name_key, ""))[:MOST_NAME_CHARACTERS])


def _client_of(provider: Provider, redirect_uri: str) -> dict[str, Any]:
    return {
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "token_endpoint_auth_method": "client_secret_post",
        "code_challenge_method": "S256",
        "scope": provider.scope or None,
        "redirect_uri": redirect_uri,
    }
