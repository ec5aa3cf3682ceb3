"""The steps of a plan: what each kind may say, what class of effect it is, and what it touches.

A step is validated here before anything looks at it, and is plain JSON again afterwards: what was voted on, unchanged.
The *class* of a step says what may be done about it after a crash (see `core.saga`):

    none             changes nothing: a precondition, or a test that may be run again at will
    idempotent       the target deduplicates by the key, or doing it twice is doing it once
    verifiable       the target can be asked whether it happened
    transactional    happens in the ledger's own transaction, or in one that keeps the key
    non_verifiable   nobody can tell: attempted at most once automatically

Paths here are texts; that they stay beneath the root is checked against the tree by the gate's facts, and again by the
effect itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, field_validator

from ..errors import PlanError
from .canonical import digest
from .policy import Policy
from .wording import first_problem

__all__ = [
    "ABSENT",
    "LEDGER_DATABASE",
    "PATH_CHARS_MAX",
    "STEPS_MAX",
    "TRANSACTION_MS_MAX",
    "CallStep",
    "CommandStep",
    "EffectClass",
    "GitCommitStep",
    "HttpRequest",
    "HttpStep",
    "PatchStep",
    "ReadStep",
    "SqlStep",
    "Step",
    "TestStep",
    "Undoable",
    "WriteStep",
    "effect_class",
    "idempotency_key",
    "parse_plan",
    "parse_step",
    "path_problem",
    "step_digest",
    "step_paths",
    "targets",
    "undoable",
    "url_host",
]

EffectClass: TypeAlias = Literal["none", "idempotent", "verifiable", "transactional", "non_verifiable"]
Undoable: TypeAlias = Literal["yes", "nothing", "no"]
"""Whether a step that was done can be taken back: by its undo, there is nothing to take back, or only by a human."""

STEPS_MAX: Final = 200
PATH_CHARS_MAX: Final = 1_024
TRANSACTION_MS_MAX: Final = 2_000
"""How long a step in the ledger's own transaction may take, in milliseconds: it holds the write lock of everybody's
ledger, and a writer waits 5 s for that."""
CONTENT_CHARS_MAX: Final = 8 * 1024 * 1024
ARGS_MAX: Final = 1_000
HEADER_CHARS_MAX: Final = 8_192
ABSENT: Final = "absent"
"""`sha256_before` of a file that is not there yet."""
LEDGER_DATABASE: Final = "ledger"
"""The `sql` target that names the ledger's own database."""

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})  # RFC 9110, section 9.2
_IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HASH: Final = r"^([0-9a-f]{64}|absent)$"
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}", re.ASCII)
_NUMERIC: Final = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?"
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?:[/?#][!-\[\]-~]*)?",
    re.ASCII,
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,100}", re.ASCII)  # RFC 9110, section 5.6.2: a token
_OUR_HEADERS: Final = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_Command: TypeAlias = Annotated[list[Annotated[str, Field(max_length=65_536)]], Field(max_length=ARGS_MAX)]


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timeout_ms: int | None = Field(default=None, ge=1, le=86_400_000)


def path_problem(path: str) -> str:
    """Why `path` cannot be a path beneath the root, by its text alone; empty where it can."""
    parts = path.split("/")
    checks = (
        (0 < len(path) <= PATH_CHARS_MAX, f"a path has 1 to {PATH_CHARS_MAX} characters, this has {len(path)}"),
        (not _CONTROL.search(path) and "\\" not in path, "a path holds no control characters and no backslash"),
        (not path.startswith("/"), "a path is relative to the root, not absolute"),
        (not path.startswith("~"), "a path does not start with ~"),
        (".." not in parts, "a path does not climb with .."),
        ("" not in parts and "." not in parts, "a path is written plainly, without empty parts and without ."),
    )
    return next((problem for holds, problem in checks if not holds), "")


def _file(value: str | None) -> str | None:
    if value is not None:
        if not value.startswith("file:"):
            raise ValueError(f'the target of this step is "file:PATH", not {value[:60]!r}')
        problem = path_problem(value.removeprefix("file:"))
        if problem:
            raise ValueError(f"{value[:120]!r}: {problem}")
    return value


def _argv(value: list[str]) -> list[str]:
    if not value or not value[0]:
        raise ValueError('a command is a list whose first item names the program, e.g. ["pytest", "-q"]')
    if any("\0" in item for item in value):
        raise ValueError("a command's argument holds a NUL character")
    return value


def url_host(url: str) -> str:
    """The host of `url` as policies name it: `host`, or `host:port` where the port is not the scheme's own.

    One spelling a host, so that whoever checks it and whoever connects to it read the same: ASCII in lower case, an
    IPv4 address as four decimal numbers, no user name, no trailing dot, no backslash. Raises ValueError.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(
            f"{url[:120]!r} is not a plain http(s) URL: scheme and host in lower-case ASCII, then a port, a path "
            "or nothing, everything else percent-encoded"
        )
    host, port = match["host"], match["port"]
    if _NUMERIC.fullmatch(host.rpartition(".")[2]) and not _IPV4.fullmatch(host):
        raise ValueError(f"{host[:80]!r} spells an address unusually; write four decimal numbers")
    if port is not None and int(port) > 65_535:
        raise ValueError(f"port {port} of {url[:120]!r} is beyond 65535")
    return host if port in (None, _DEFAULT_PORTS[match["scheme"]]) else f"{host}:{port}"


class ReadStep(_Step):
    """A precondition: the file is there, and has this content where `sha256` is given."""

    step: Literal["read"]
    target: str
    sha256: str | None = Field(default=None, pattern=_HASH)

    _target = field_validator("target")(_file)


class WriteStep(_Step):
    """The whole file becomes `content`. `sha256_before`: what it holds when the plan is frozen, or "absent"."""

    step: Literal["write"]
    target: str
    content: str = Field(max_length=CONTENT_CHARS_MAX)
    sha256_before: str | None = Field(default=None, pattern=_HASH)

    _target = field_validator("target")(_file)


class PatchStep(_Step):
    """A unified diff of one file, applied without fuzz."""

    step: Literal["patch"]
    target: str
    patch: str = Field(min_length=1, max_length=CONTENT_CHARS_MAX)
    sha256_before: str | None = Field(default=None, pattern=_HASH)

    _target = field_validator("target")(_file)


class CommandStep(_Step):
    """A program with arguments, without a shell. `probe` exits 0 where the effect has happened, 1 where it has not,
    anything else where it cannot tell; after an undo it is asked again. `undo`: what takes it back; [] says that there
    is nothing to take back."""

    step: Literal["command"]
    target: str | None = Field(default=None, max_length=4096)
    cmd: _Command
    cwd: str | None = None
    probe: _Command | None = None
    undo: _Command | None = None

    _cmd = field_validator("cmd")(_argv)
    _probe = field_validator("probe")(lambda value: value if value is None else _argv(value))
    _undo = field_validator("undo")(lambda value: value if not value else _argv(value))

    @field_validator("cwd")
    @classmethod
    def _cwd(cls, value: str | None) -> str | None:
        if value is not None and (problem := path_problem(value)):
            raise ValueError(f"{value[:120]!r}: {problem}")
        return value


class TestStep(_Step):
    """A command that must exit 0, changes nothing, and may be run again."""

    __test__ = False  # its name is the step's, not pytest's

    step: Literal["test"]
    target: str | None = Field(default=None, max_length=4096)
    cmd: _Command
    cwd: str | None = None

    _cmd = field_validator("cmd")(_argv)
    _cwd = field_validator("cwd")(CommandStep._cwd.__func__)  # type: ignore[attr-defined]


class HttpRequest(BaseModel):
    """A request, as `undo` holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Literal["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"]
    url: str = Field(max_length=4096)
    headers: dict[str, str] = Field(default_factory=dict, max_length=100)
    body: JsonValue = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if "@" in re.split(r"[/?#]", value.partition("://")[2], maxsplit=1)[0]:
            raise ValueError("a URL holds no user name or password; a ledger keeps it for good")
        url_host(value)
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER.fullmatch(name) or _CONTROL.search(text) or len(text) > HEADER_CHARS_MAX:
                raise ValueError(
                    f"{name[:60]!r}: a header has a plain name and at most {HEADER_CHARS_MAX} characters without "
                    "control characters"
                )
            if name.lower() in _OUR_HEADERS or name.lower().startswith(("proxy-", "x-madflow-")):
                raise ValueError(f"{name!r} is set by the submitter, or is no business of a plan; leave it out")
        if len({name.lower() for name in value}) != len(value):
            raise ValueError("a header is given twice, in different cases; give it once")
        return value


class HttpStep(_Step, HttpRequest):
    """One request, redirects not followed; any 2xx is done. `undo: false` says that there is nothing to take back."""

    step: Literal["http"]
    target: str | None = Field(default=None, max_length=4096)
    undo: HttpRequest | Literal[False] | None = None


class SqlStep(_Step):
    """One statement against `db:NAME`, where NAME is "ledger" or one of the policy's databases."""

    step: Literal["sql"]
    target: str
    statement: str = Field(min_length=1, max_length=65_536)
    params: list[str | int | float | bool | None] = Field(default_factory=list, max_length=ARGS_MAX)
    undo: str | None = Field(default=None, max_length=65_536)
    undo_params: list[str | int | float | bool | None] = Field(default_factory=list, max_length=ARGS_MAX)

    @field_validator("target")
    @classmethod
    def _db(cls, value: str) -> str:
        if not re.fullmatch(r"db:[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", value, re.ASCII):
            raise ValueError(f'the target of a sql step is "db:NAME", not {value[:60]!r}')
        return value


class GitCommitStep(_Step):
    """Commits the working tree's content of `paths` on top of a branch, by compare-and-swap of its ref."""

    step: Literal["git_commit"]
    target: str
    paths: list[str] = Field(min_length=1, max_length=1_000)
    message: str = Field(min_length=1, max_length=65_536)

    @field_validator("target")
    @classmethod
    def _ref(cls, value: str) -> str:
        if not re.fullmatch(r"git:refs/heads/[A-Za-z0-9][A-Za-z0-9_./\-]{0,199}", value, re.ASCII) or ".." in value:
            raise ValueError(f'the target of a git_commit step is "git:refs/heads/BRANCH", not {value[:60]!r}')
        if value.endswith(("/", ".", ".lock")) or "//" in value or "/." in value:
            raise ValueError(f"{value[:60]!r} is no name git allows for a branch")
        return value

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        for path in value:
            if problem := path_problem(path):
                raise ValueError(f"{path[:120]!r}: {problem}")
        return value


class CallStep(_Step):
    """A step the app registered under this name."""

    step: Literal["call"]
    target: str | None = Field(default=None, max_length=4096)
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]{0,99}$")
    args: dict[str, JsonValue] = Field(default_factory=dict)


Step: TypeAlias = Annotated[
    ReadStep | WriteStep | PatchStep | CommandStep | TestStep | HttpStep | SqlStep | GitCommitStep | CallStep,
    Field(discriminator="step"),
]
_KINDS: Final[Mapping[str, type[_Step]]] = {
    "read": ReadStep,
    "write": WriteStep,
    "patch": PatchStep,
    "command": CommandStep,
    "test": TestStep,
    "http": HttpStep,
    "sql": SqlStep,
    "git_commit": GitCommitStep,
    "call": CallStep,
}
_ADAPTER: Final[TypeAdapter[Step]] = TypeAdapter(Step)


def parse_step(data: Mapping[str, Any], index: int = 0) -> Step:
    """The step as its kind's model. Raises PlanError naming the step, the field and what is wrong."""
    if not isinstance(data, Mapping):
        raise PlanError(f"step {index} is a {type(data).__name__}; a step is a JSON object", step=index)
    try:
        return _ADAPTER.validate_python({key: value for key, value in data.items() if value is not None})
    except ValidationError as error:
        kind = str(data.get("step"))[:40]
        if error.errors()[0]["type"].startswith("union_tag"):
            said = f"no such kind of step; there are {', '.join(_KINDS)}"
        else:
            said = first_problem(error, known=_KINDS[kind].model_fields).removeprefix(f"{kind}.")
        raise PlanError(f"step {index} ({kind}): {said}", step=index) from error


def parse_plan(plan: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """All steps. Raises PlanError for the first that cannot be used, an empty plan, or more than `STEPS_MAX` steps."""
    if not plan:
        raise PlanError("the plan has no steps: there is nothing to commit", step=None)
    if len(plan) > STEPS_MAX:
        raise PlanError(f"the plan has {len(plan)} steps, the limit is {STEPS_MAX}; split it", step=None)
    return tuple(parse_step(step, index) for index, step in enumerate(plan))


def step_digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of the step as it was voted on; fields that are null count as absent."""
    return digest({key: value for key, value in data.items() if value is not None})


def idempotency_key(scope: str, proposal_id: str, index: int, direction: Literal["do", "undo"]) -> str:
    """The key of one step and direction: SHA-256 (hex) of the canonical JSON of these four."""
    return digest([scope, proposal_id, index, direction])


def effect_class(
    step: Step,
    policy: Policy,
    registered: Mapping[str, EffectClass],
    direction: Literal["do", "undo"] = "do",
) -> EffectClass:
    """What may be done about this step after a crash.

    Args:
        registered: the classes of the app's own steps, by name (of their undo, where `direction` is "undo").
    """
    if isinstance(step, HttpStep):
        return _http_class((step.undo or step) if direction == "undo" else step, policy)
    if isinstance(step, CommandStep):
        return "verifiable" if step.probe else "non_verifiable"
    if isinstance(step, SqlStep) and step.target != f"db:{LEDGER_DATABASE}":
        return "verifiable"  # the key is kept in that database, in the statement's own transaction
    if not isinstance(step, CallStep):
        return _CLASSES[step.step]
    if step.name not in registered:
        known = ", ".join(sorted(registered)) or "none"
        raise PlanError(f"no step {step.name!r} is registered here; registered: {known}", step=None)
    return registered[step.name]


_CLASSES: Final[Mapping[str, EffectClass]] = {
    "read": "none",
    "test": "none",
    "write": "verifiable",
    "patch": "verifiable",
    "git_commit": "verifiable",
    "sql": "transactional",
}


def _http_class(request: HttpRequest, policy: Policy) -> EffectClass:
    if request.method in _SAFE_METHODS:
        return "none"
    honoured = policy.honours_keys(url_host(request.url))
    return "idempotent" if honoured or request.method in _IDEMPOTENT_METHODS else "non_verifiable"


def undoable(step: Step, registered: Mapping[str, Undoable]) -> Undoable:
    """Whether the step can be taken back once it was done. `registered`: the app's own steps, by name."""
    if isinstance(step, ReadStep | TestStep):
        return "nothing"
    if isinstance(step, WriteStep | PatchStep | GitCommitStep):
        return "yes"
    if isinstance(step, CallStep):
        return registered[step.name]
    if isinstance(step, HttpStep) and (step.method in _SAFE_METHODS or step.undo is False):
        return "nothing"
    if isinstance(step, CommandStep) and step.undo == []:
        return "nothing"
    return "yes" if step.undo else "no"


def targets(step: Step) -> tuple[str, ...]:
    """What the step touches, as names for limits: file:…, url:HOST, db:…, git:…, call:NAME, command:PROGRAM."""
    if isinstance(step, HttpStep):
        return (f"url:{url_host(step.url)}",)
    if isinstance(step, CommandStep | TestStep):
        return (step.target or f"command:{step.cmd[0]}",)
    if isinstance(step, CallStep):
        return (step.target or f"call:{step.name}",)
    if isinstance(step, GitCommitStep):
        return (step.target, *(f"file:{path}" for path in step.paths))
    return (step.target,)


def step_paths(step: Step) -> tuple[str, ...]:
    """The paths beneath the root that the step reads or writes."""
    if isinstance(step, ReadStep | WriteStep | PatchStep):
        return (step.target.removeprefix("file:"),)
    if isinstance(step, GitCommitStep):
        return tuple(step.paths)
    if isinstance(step, CommandStep | TestStep) and step.cwd is not None:
        return (step.cwd,)
    return ()
