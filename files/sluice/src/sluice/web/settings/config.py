"""`/etc/sluice/web.json`: the settings of web and authority, secrets included."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sluice import config
from sluice.contracts.values import GROUP
from sluice.errors import ConfigError
from sluice.logs import LEVELS
from sluice.web.settings import branding
from sluice.web.settings.branding import Branding
from sluice.web.settings.personas import SitePersona, personas_problem
from sluice.web.settings.rules import rule_problem

DEFAULT_PATH = "/etc/sluice/web.json"

# A shorter secret is probably a password that somebody invented, not a generated one.
MIN_SECRET = 32
# Limits and `sluice db check` read records of this age.
MIN_USAGE_DAYS = 2

# A sign-in lasts at most a week. A clock that is wrong by more than the leeway needs correction. Seconds.
MAX_SESSION = 604_800
MAX_LEEWAY = 300
# nginx and the proxy take no smaller bound of bodies, in bytes.
_LEAST_BODY = 1_024

_NAMING = "names have a-z, 0-9 and . _ -, at most 64 characters, and begin with a letter or digit"
_PATH = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._~-]{0,63}){0,8}/?")
_SOCKET_MODE = re.compile(r"0[0-7]{3}")
_DATABASE = re.compile(r"sqlite:///.|postgresql\+psycopg://")
_AUTH_METHODS = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True)
class KeySecret:
    """A secret under which keys are stored; each stored key has the `id` of its secret."""

    id: str
    value: str


@dataclass(frozen=True)
class Claims:
    """The names of the provider's claims for a person's identifier, name, mail address and groups."""

    id: str
    name: str
    email: str
    groups: str


@dataclass(frozen=True)
class Access:
    """What groups allow: `admins` are administrators; only `users` may sign in (if empty: everybody).

    `projects`: the groups of each project's members, by project. `names`: groups by the provider's value, for
    values that do not have the form of a group's name.
    """

    admins: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    projects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def projects_of_group(self) -> dict[str, list[str]]:
        """The projects whose members a group's members are, by group."""
        found: dict[str, list[str]] = {}
        for project, groups in self.projects.items():
            for group in groups:
                found.setdefault(group, []).append(project)
        return found


@dataclass(frozen=True)
class LimitRule:
    """A limit of the inventory, for all to whom `scope` applies.

    `scope` is a scope of `sluice.contracts.authority.Limit`; or `user:*`, `key:*`, `project:*`, `group:*` for
    each separately; or `member:GROUP` for each user of a group separately. None is no limit.
    """

    scope: str
    model: str = ""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True)
class OidcConfig:
    """The OpenID provider; `ca_file` is "" if its certificate is from one of the system's authorities.

    `leeway`: by how many seconds its clock may differ from ours.
    """

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    claims: Claims
    ca_file: str
    token_auth: str = _AUTH_METHODS[0]
    leeway: int = 60


@dataclass(frozen=True)
class WebConfig:
    """The settings of web and authority; times are in seconds, except where the name says days.

    A sign-in ends `session_idle` after its last use, and `session_max` after it began. Usage records are kept
    for `usage_days`, the audit log for `audit_days`. Keys are stored under `key_secret`. A key that is still
    stored under one of `old_key_secrets` also works, and is stored under `key_secret` at its next use.
    `max_body`: the bytes of a request's body that nginx takes, which the chat page tells before it sends.
    `personas` are those that the chat page offers to everybody.
    """

    public_url: str
    database: str
    session_dir: str
    secret_key: str
    key_secret: KeySecret
    oidc: OidcConfig
    key_days: int
    page_bearer_seconds: int
    authority_socket_mode: str
    log_level: str
    access: Access = Access()
    limits: tuple[LimitRule, ...] = ()
    session_idle: int = 7_200
    session_max: int = 43_200
    usage_days: int = 400
    audit_days: int = 400
    old_key_secrets: tuple[KeySecret, ...] = ()
    max_body: int = 33_554_432
    personas: tuple[SitePersona, ...] = ()
    branding: Branding = field(default_factory=Branding)

    @property
    def prefix(self) -> str:
        """The path below which everything is served, such as `/ai`; "" for the root of the host."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def api_url(self) -> str:
        """The base URL for OpenAI's clients."""
        return self.public_url.rstrip("/") + "/v1"


def load(path: str | Path) -> WebConfig:
    """Read and check the file. Raises ConfigError naming file, key and remedy."""
    return check(config.load(WebConfig, path), str(path))


def check(settings: WebConfig, source: str) -> WebConfig:
    """Return `settings` if all values are valid, else raise ConfigError."""
    for problem in (
        _url_problem(settings),
        _secret_problem(settings),
        _value_problem(settings),
        _database_problem(settings),
        _access_problem(settings.access),
        _session_problem(settings),
        _limit_problem(settings),
        _persona_problem(settings),
        branding.problem(settings.branding),
    ):
        if problem:
            raise ConfigError(f"{source}: {problem}")
    return settings


def _url_problem(settings: WebConfig) -> str:
    for key, url in (("public_url", settings.public_url), ("oidc.issuer", settings.oidc.issuer)):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.netloc or parts.query or parts.fragment:
            return f"{key}: must be an https:// URL without query or fragment"
    if not _PATH.fullmatch(urlsplit(settings.public_url).path):
        return (
            "public_url: the path must consist of parts such as /ai, each of letters, digits and . _ ~ - and "
            "beginning with a letter or digit"
        )
    return ""


def _secret_problem(settings: WebConfig) -> str:
    secrets = {"secret_key": settings.secret_key, "key_secret.value": settings.key_secret.value}
    for index, secret in enumerate(settings.old_key_secrets):
        secrets[f"old_key_secrets[{index}].value"] = secret.value
    for key, value in secrets.items():
        if len(value) < MIN_SECRET:
            return f"{key}: must have at least {MIN_SECRET} characters; create one with: openssl rand -hex 32"
    ids = [secret.id for secret in (settings.key_secret, *settings.old_key_secrets)]
    for index, old in enumerate(ids[1:], start=1):
        if old in ids[:index]:
            return (
                f"old_key_secrets[{index - 1}].id: {old!r} is the id of another secret too; give each a "
                "different id"
            )
    return ""


def _database_problem(settings: WebConfig) -> str:
    # The value may contain a password, so no message quotes it.
    if not _DATABASE.match(settings.database):
        return "database: must be sqlite:////PATH or postgresql+psycopg://NAME:PASSWORD@HOST/DATABASE"
    # Limits look back a minute and a day; these records must still exist.
    if settings.usage_days < MIN_USAGE_DAYS or settings.audit_days < 1:
        return f"usage_days must be at least {MIN_USAGE_DAYS} and audit_days at least 1"
    return ""


def _access_problem(access: Access) -> str:
    places = {"admins": access.admins, "users": access.users, "names": tuple(access.names.values())}
    places |= {f"projects.{name}": groups for name, groups in access.projects.items()}
    for place, groups in places.items():
        for group in groups:
            if not GROUP.fullmatch(group):
                return f"access.{place}: {group!r} is not a group's name; {_NAMING}"
    for name, groups in access.projects.items():
        if not GROUP.fullmatch(name):
            return f"access.projects: {name!r} is not a project's name; {_NAMING}"
        if not groups:
            return f"access.projects.{name}: needs at least one group"
    return ""


def _session_problem(settings: WebConfig) -> str:
    if not 60 <= settings.session_idle <= settings.session_max <= MAX_SESSION:
        return f"session_idle and session_max: 60 <= session_idle <= session_max <= {MAX_SESSION} (seconds)"
    if not 0 <= settings.oidc.leeway <= MAX_LEEWAY:
        return f"oidc.leeway: must be from 0 to {MAX_LEEWAY} seconds; correct the clocks instead"
    return ""


def _limit_problem(settings: WebConfig) -> str:
    for index, rule in enumerate(settings.limits):
        problem = rule_problem(rule, settings.access.projects)
        if problem:
            return f"limits[{index}].{problem}"
    return ""


def _persona_problem(settings: WebConfig) -> str:
    problem = personas_problem(settings.personas)
    return f"personas{problem}" if problem else ""


def _value_problem(settings: WebConfig) -> str:
    if "openid" not in settings.oidc.scopes.split():
        return "oidc.scopes: must contain the word openid"
    if settings.oidc.token_auth not in _AUTH_METHODS:
        return "oidc.token_auth: must be one of " + ", ".join(_AUTH_METHODS)
    if not _SOCKET_MODE.fullmatch(settings.authority_socket_mode):
        return 'authority_socket_mode: must be four octal digits in quotes, such as "0660"'
    if settings.log_level not in LEVELS:
        return "log_level: must be one of " + ", ".join(LEVELS)
    if settings.key_days < 1 or settings.page_bearer_seconds < 30:
        return "key_days must be at least 1 and page_bearer_seconds at least 30"
    if settings.max_body < _LEAST_BODY:
        return f"max_body must be at least {_LEAST_BODY}"
    return ""
