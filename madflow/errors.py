"""Every error madflow raises, as one tree.

    MadflowError
    ├── UsageError             known before the first call: the command line exits with 2
    │   ├── ConfigError        a crew file, a rule, a topology, an option that makes no sense
    │   ├── TaskError          a task or a diff that cannot be debated
    │   ├── BudgetTooSmall     the cap does not cover round 1 and the landing
    │   ├── MissingKey         no credentials for the provider
    │   ├── UnknownModel       no provider serves this name, or its price is needed and unknown
    │   ├── ResumeRefused      the same id was opened with another task, crew, prompt, model or rule
    │   ├── PlanError          a step of a plan that cannot be used as it is written
    │   ├── PolicyError        a policy file that cannot be used
    │   └── UnknownProposal    the ledger knows no proposal, commit or key of this name
    ├── DebateBusy             another process is running this debate
    ├── CommitError            a commit could not be carried on: nobody could be elected, a term was lost
    ├── EffectError            a step of the app's own failed, and says whether it may be retried
    ├── LedgerError
    │   ├── LedgerBusy         other writers kept it locked: nothing was recorded, try again
    │   ├── LedgerPoisoned     a write or an fsync failed: nothing more is written by this process
    │   ├── LedgerCorrupt      the hash chain or a record does not verify
    │   └── LedgerConflict     another writer took the next place in the stream
    ├── BudgetExceeded         one reservation does not fit; inside a debate it ends as a stop reason
    ├── ReplyError             a reply that the strict parser refuses; inside a debate it ends as an invalid ballot
    └── ModelError             one model call failed
        ├── TransientModelError   worth retrying: 408, 409, 429, 5xx, connection lost
        │   └── ParameterRefused  a parameter that the server does not take: the next attempt goes without
        └── PermanentModelError   never retried: key, quota, context overflow, content filter, bad request

A message names the thing, the limit and the actual value, and what to do next.
Expected endings of a debate (a tie, a timeout, an exhausted budget) are values, not errors.
"""

from __future__ import annotations

__all__ = [
    "BudgetExceeded",
    "BudgetTooSmall",
    "CommitError",
    "ConfigError",
    "DebateBusy",
    "EffectError",
    "LedgerBusy",
    "LedgerConflict",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerPoisoned",
    "MadflowError",
    "MissingKey",
    "ModelError",
    "ParameterRefused",
    "PermanentModelError",
    "PlanError",
    "PolicyError",
    "ReplyError",
    "ResumeRefused",
    "TaskError",
    "TransientModelError",
    "UnknownModel",
    "UnknownProposal",
    "UsageError",
]


class MadflowError(Exception):
    """Base of every error raised by madflow."""


class UsageError(MadflowError):
    """Bad input that is known before the first model call."""


class ConfigError(UsageError):
    """A crew, rule, topology or option that cannot be used as given."""


class TaskError(UsageError):
    """A task or diff that cannot be debated as given."""


class BudgetTooSmall(UsageError):
    """The cap does not cover the first round and the landing.

    Attributes:
        resource: "tokens", "usd_nanos" or "calls"; limit, needed: the cap, and the least that would do.
    """

    def __init__(self, message: str, *, resource: str = "", limit: int = 0, needed: int = 0) -> None:
        self.resource, self.limit, self.needed = resource, limit, needed
        super().__init__(message)


class MissingKey(UsageError):
    """The provider of a model needs credentials that are not set."""


class UnknownModel(UsageError):
    """No provider is known for a model name, or its price is needed and not known."""


class ResumeRefused(UsageError):
    """A debate of this id exists with another fingerprint; the message names what changed."""


class PlanError(UsageError):
    """A plan, or a step of it, cannot be used. `step`: its 0-based index, None for the plan as a whole."""

    def __init__(self, message: str, *, step: int | None) -> None:
        self.step = step
        super().__init__(message)


class PolicyError(UsageError):
    """A policy file cannot be used as it is written."""


class UnknownProposal(UsageError):
    """The ledger knows no proposal, commit or key of this name."""


class CommitError(MadflowError):
    """A commit could not be carried on here; the ledger has where it stands."""


class EffectError(MadflowError):
    """Raised by an app's own step to say that it failed.

    Attributes:
        code: short machine-readable cause.
        transient: whether another attempt may succeed.
        applied: False: the effect certainly did not happen; None: not known.
    """

    def __init__(self, code: str, message: str, *, transient: bool = False, applied: bool | None = None) -> None:
        self.code, self.transient, self.applied = code, transient, applied
        super().__init__(message)


class DebateBusy(MadflowError):
    """Another process holds this debate."""


class LedgerError(MadflowError):
    """The ledger refused or failed."""


class LedgerBusy(LedgerError):
    """Other writers kept the ledger locked. Nothing was recorded; another try may succeed."""


class LedgerPoisoned(LedgerError):
    """A write or an fsync failed earlier: this handle writes nothing more."""


class LedgerCorrupt(LedgerError):
    """A record or the hash chain does not verify."""


class LedgerConflict(LedgerError):
    """Another writer took the next place in the stream."""


class BudgetExceeded(MadflowError):
    """One reservation does not fit under the cap.

    Attributes:
        resource: "tokens", "usd_nanos", "calls" or "seconds".
        limit, actual: the cap, and what the reservation would have brought it to.
    """

    def __init__(self, resource: str, limit: int, actual: int, held: int = 0) -> None:
        self.resource, self.limit, self.actual, self.held = resource, limit, actual, held
        text = f"exceeded the {resource} limit of {limit} ({resource}={actual}, {held} held back for the landing)"
        super().__init__(text)


class ReplyError(MadflowError):
    """A model's reply does not parse. `cause` is a short code, e.g. "no_json", "two_objects", "schema"."""

    def __init__(self, cause: str, detail: str = "") -> None:
        self.cause, self.detail = cause, detail
        super().__init__(f"{cause}: {detail}" if detail else cause)


class ModelError(MadflowError):
    """One model call failed.

    Attributes:
        code: short machine-readable cause, e.g. "rate_limited", "connection", "bad_key", "context_overflow".
        status: HTTP status where there was one.
        retry_after_s: what the server asked for, in seconds, where it did.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        self.code, self.status, self.retry_after_s = code, status, retry_after_s
        super().__init__(message)


class TransientModelError(ModelError):
    """May pass: retried within the bound."""


class ParameterRefused(TransientModelError):
    """The server does not take an optional parameter of the request; the next attempt goes without, and needs no wait.

    Attributes:
        word: what was sent and refused, one of `models.dialect.REFUSABLE`, e.g. "response_format:json_schema".
        unbilled: the refusal tells of no work done, so that nothing but the attempt is charged.
    """

    def __init__(self, code: str, message: str, *, word: str, unbilled: bool = True, status: int | None = None) -> None:
        self.word, self.unbilled = word, unbilled
        super().__init__(code, message, status=status, retry_after_s=0.0)


class PermanentModelError(ModelError):
    """Will not pass: never retried."""
