"""policy.toml: what a submitter may do beneath its root. What it does not allow is denied; an absent policy denies all.

    [admit]                              whose approval counts; without it the proposal's own rule decides
    rule = "supermajority:2/3"           beside the proposal's own rule, over the same ballots
    min_eligible = 3                     eligible seats at least
    min_families = 1                     model families at least, among the seats that approve
    max_age_s = 86400                    a proposal that was created longer ago is stale
    [[allow]]                            any number; a step is allowed if one entry allows all of it
    step = ["read", "write", "patch"]
    paths = ["src/**", "out/**"]         read, write, patch, git_commit (every path) and a command's cwd
    roles = ["developer"]                only for proposals by these roles; empty: any
    [[allow]]
    step = ["command", "test"]
    commands = ["pytest", "ruff"]        the program, argv[0], of cmd, probe and undo
    [[allow]]
    step = ["http"]
    hosts = ["api.example.com", "localhost:8080"]   without a port: the scheme's own
    methods = ["PUT"]                    empty: any
    [[allow]]
    step = ["sql"]
    databases = ["ledger", "app"]
    [[allow]]
    step = ["git_commit"]
    refs = ["refs/heads/madflow/*"]
    paths = ["src/**"]
    [[allow]]
    step = ["call"]
    names = ["deploy"]
    [limits]                             concurrent commits per resource; a file takes one at a time anyway
    "file:src/**" = 1
    [http]
    idempotent_hosts = ["api.example.com"]   they deduplicate by the Idempotency-Key header
    [databases]
    app = "data/app.db"                  a SQLite file beneath the root
    [commands]
    env = ["HOME"]                       passed on beside PATH, LANG and the key and term; nothing else is
    [time]
    step_s = 60                          a step without timeout_ms
    commit_s = 900                       a whole commit, and once more for its compensation
    [retry]
    attempts = 3                         per step, crashes included

Patterns: `*` and `?` stay within one part of a path, `**` crosses parts. Case counts. An entry without a pattern for
a part that the step has denies it; only `methods` and `roles` mean any where they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from ..errors import ConfigError, PolicyError
from .canonical import digest
from .rules import parse_rule
from .wording import first_problem

__all__ = ["Admit", "Allow", "Policy", "any_match", "glob_match", "parse_policy"]

StepKind = Literal["read", "write", "patch", "command", "test", "http", "sql", "git_commit", "call"]
_PATTERNS_MAX: Final = 1_000
_METHODS: Final = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH")


def _lower_case(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if host != host.lower() or "/" in host or "@" in host:
            raise ValueError(f"{host[:80]!r}: a host is host or host:port in lower case, as in a step's url")
    return value


def _upper_case(value: tuple[str, ...]) -> tuple[str, ...]:
    for method in value:
        if method not in _METHODS:
            raise ValueError(f"{method[:20]!r} is no method of a step; there are {', '.join(_METHODS)}")
    return value


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Admit(_Table):
    """Whose approval counts, beside what the proposal itself says. None: nothing is asked."""

    rule: str | None = None
    min_eligible: int = Field(default=1, strict=True, ge=1, le=1_000)
    min_families: int = Field(default=1, strict=True, ge=1, le=100)
    max_age_s: int | None = Field(default=None, strict=True, ge=1, le=10 * 366 * 86_400)

    @field_validator("rule")
    @classmethod
    def _rule(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            rule = parse_rule(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if rule.needs_judge:
            raise ValueError(f"{value!r} leaves it to a judge; a policy's rule counts ballots, e.g. supermajority:2/3")
        return str(rule)


class Allow(_Table):
    """One permission: every part of a step that this entry's kind has must match."""

    step: tuple[StepKind, ...] = Field(min_length=1)
    paths: tuple[str, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    commands: tuple[str, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    hosts: tuple[str, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    methods: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    refs: tuple[str, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    names: tuple[str, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    roles: tuple[str, ...] = ()

    _hosts = field_validator("hosts")(_lower_case)
    _methods = field_validator("methods")(_upper_case)


class _Http(_Table):
    idempotent_hosts: tuple[str, ...] = ()

    _hosts = field_validator("idempotent_hosts")(_lower_case)


class _Commands(_Table):
    env: tuple[str, ...] = Field(default=(), max_length=100)


class _Time(_Table):
    step_s: int = Field(default=60, strict=True, ge=1, le=86_400)
    commit_s: int = Field(default=900, strict=True, ge=1, le=7 * 86_400)


class _Retry(_Table):
    attempts: int = Field(default=3, strict=True, ge=1, le=10)


class Policy(_Table):
    """What policy.toml says; see the module's docstring. The empty policy denies everything."""

    admit: Admit = Admit()
    allow: tuple[Allow, ...] = Field(default=(), max_length=_PATTERNS_MAX)
    limits: dict[str, StrictInt] = Field(default_factory=dict, max_length=_PATTERNS_MAX)
    http: _Http = _Http()
    databases: dict[str, str] = Field(default_factory=dict, max_length=100)
    commands: _Commands = _Commands()
    time: _Time = _Time()
    retry: _Retry = _Retry()

    @field_validator("databases")
    @classmethod
    def _databases(cls, value: dict[str, str]) -> dict[str, str]:
        if "ledger" in value:
            raise ValueError('"ledger" is the ledger\'s own database and needs no file; give another name')
        return value

    @field_validator("limits")
    @classmethod
    def _limits(cls, value: dict[str, int]) -> dict[str, int]:
        for name, limit in value.items():
            if not 1 <= limit <= 10_000:
                raise ValueError(
                    f"{name!r} = {limit}: a limit is 1 to 10000 concurrent commits; to forbid, do not allow"
                )
        return value

    def digest(self) -> str:
        """SHA-256 (hex) of the policy, as records name it."""
        return digest(self.model_dump(mode="json"))

    def honours_keys(self, host: str) -> bool:
        """Whether `host` (with its port, where the URL has one) deduplicates by Idempotency-Key."""
        return host in self.http.idempotent_hosts

    def limit_of(self, resource: str) -> int | None:
        """How many commits may work on `resource` at once; None: as many as there are.

        By default a file, a ref and a database take one, but not the ledger, whose transactions have an order.
        """
        found = [limit for pattern, limit in self.limits.items() if glob_match(pattern, resource)]
        if found:
            return min(found)
        alone = resource.startswith(("file:", "git:", "db:")) and resource != "db:ledger"
        return 1 if alone else None


def parse_policy(data: Mapping[str, Any], source: str = "policy.toml") -> Policy:
    """The policy in a parsed TOML document. Raises PolicyError naming the file, the key and the fix."""
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise PolicyError(f"{source}: {first_problem(error, Policy, _keys(error))}") from error


def _keys(error: ValidationError) -> tuple[str, ...]:
    """The keys of the table in which the first problem lies, where it lies below the top."""
    path = error.errors()[0]["loc"]
    tables: dict[str, type[BaseModel]] = {
        "admit": Admit,
        "allow": Allow,
        "http": _Http,
        "commands": _Commands,
        "time": _Time,
        "retry": _Retry,
    }
    table = tables.get(str(path[0])) if len(path) > 1 else None
    return tuple(table.model_fields) if table is not None else ()


def glob_match(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches. `*` and `?` do not cross a slash, `**` does, `**/` may be empty."""
    return _compiled(pattern).fullmatch(text) is not None


def any_match(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns matches."""
    return any(glob_match(pattern, text) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    out, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return re.compile("".join(out), re.DOTALL)
