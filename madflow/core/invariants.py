"""What a scope's commit records promise, checked record by record, by a reader that trusts none of them.

`journal` folds the records on the assumption that they are in order; this module is the one that doubts it. It shares
no code with the fold or the saga, so that a defect there shows here. What holds of every stream `commit/<scope>`:

    terms       sealed terms strictly increase; every record carries the term that was sealed last
    keys        a key is what `idempotency_key` makes of scope, proposal, step and direction; one intent, one step
                digest, one class for it; every record of the key names the same step
    attempts    `started` N follows N-1, and only when that one is over; each attempt is started, failed and put in
                doubt at most once; nothing but `started` makes an attempt
    outcomes    an outcome has its intent and its `started`; one terminal record a key, and nothing of the key after it
    doubts      `in_doubt` and `resolved` take turns; only the second, by a named human, ends a doubt
    non-verifiable steps are attempted once, and once more for each `resolved` that says retry
    order       a step begins when all before it are done; a compensation begins after a step of its commit failed,
                for steps that were done, from the last to the first, skipping none that can be taken back, each once
    ends        `committed`: all admitted steps are done. `compensated`: a step failed, and what was done is undone or a
                human spoke. Nothing of a commit after its end

Records may be forged: fields that are missing or of another type are violations, never exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError
from .journal import KINDS, Recorded, commit_id
from .plan import STEPS_MAX, idempotency_key

__all__ = ["VIOLATIONS_MAX", "violations"]

VIOLATIONS_MAX: Final = 100
"""How many violations are listed; the list then ends with a line that says so."""

_CLASSES: Final = frozenset({"none", "idempotent", "verifiable", "transactional", "non_verifiable"})


def violations(records: Iterable[Recorded], *, scope: str | None = None) -> list[str]:
    """What is wrong with one scope's records, oldest first, as `record SEQ (KIND): what`; empty where they hold.

    Args:
        records: the stream `commit/<scope>`, from its beginning, in order.
        scope: whose records they are; None: the scope that a record's own `stream` names, where it has one.

    At most `VIOLATIONS_MAX` are listed, and one line that says there are more.
    """
    check = _Check(scope)
    for record in records:
        check.add(record)
        if len(check.found) > VIOLATIONS_MAX:
            more = f"record {record.seq}: more than {VIOLATIONS_MAX} violations; mend or leave this ledger, start anew"
            return [*check.found[:VIOLATIONS_MAX], more]
    return check.found


@dataclass(slots=True)
class _Key:
    """One key as its records tell it. `open`: the last attempt may be under way."""

    index: int
    undo: bool
    commit: str
    digest: str
    effect_class: str
    undoable: str
    attempt: int = 0
    open: bool = False
    in_doubt: bool = False
    granted: int = 0
    terminal: str = ""


@dataclass(slots=True)
class _Commit:
    """One commit as its records tell it. `keys`: by (step, is it the undo)."""

    name: str
    proposal: Any = None
    proposal_digest: Any = None
    steps: int = 0
    keys: dict[tuple[int, bool], _Key] = field(default_factory=dict)
    closed: str = ""

    def first_failed(self) -> int | None:
        """The step that failed for good, if one did."""
        failed = [index for (index, undo), key in self.keys.items() if not undo and key.terminal == "failed"]
        return min(failed, default=None)

    def is_done(self, index: int) -> bool:
        key = self.keys.get((index, False))
        return key is not None and key.terminal == "done"

    def first_missing(self, below: int) -> int | None:
        """The first step before `below` that is not done."""
        index = 0
        while index < below and self.is_done(index):
            index += 1
        return index if index < below else None

    def to_undo(self, below: int, above: int = -1) -> list[int]:
        """Steps between the two that were done and can or must be answered for, last first."""
        found = [
            index
            for (index, undo), key in self.keys.items()
            if not undo and above < index < below and key.terminal == "done" and key.undoable != "nothing"
        ]
        return sorted(found, reverse=True)


class _Malformed(Exception):
    """A field is missing or of another type; the message says which."""


class _Check:
    def __init__(self, scope: str | None) -> None:
        self.scope, self.term = scope, 0
        self.found: list[str] = []
        self.commits: dict[str, _Commit] = {}
        self.keys: dict[str, _Key] = {}

    def add(self, record: Recorded) -> None:
        wrong: list[str] = []
        try:
            self._record(record, wrong.append)
        except _Malformed as error:
            wrong.append(str(error))
        self.found += [f"record {record.seq} ({str(record.kind)[:40]}): {what}" for what in wrong]

    def _record(self, record: Recorded, wrong: Callable[[str], None]) -> None:
        kind, payload = record.kind, record.payload
        if kind not in KINDS:
            raise _Malformed("no kind of commit record; this stream holds commit records only")
        term = _integer(payload, "term", 1)
        if kind == "term_sealed":
            if term <= self.term:
                wrong(f"term {term} is sealed after term {self.term}; sealed terms strictly increase")
            self.term = max(self.term, term)
            return
        if term != self.term:
            wrong(f"written in term {term}, but the term sealed last is {self.term or 'none'}")
        commit = self._commit(record, wrong)
        if commit.closed:
            wrong(f"commit {commit.name} was {commit.closed} before; nothing comes after that")
        if kind == "rejected":
            if commit.keys:
                wrong(f"commit {commit.name} is rejected after it was admitted")
            return
        self._same_proposal(commit, payload, wrong)
        if kind in ("committed", "compensated"):
            _END[kind](commit, wrong)
            commit.closed = commit.closed or kind
        elif kind.removeprefix("compensation_") == "intent":
            self._intent(commit, payload, wrong, undo=kind.startswith("compensation_"))
        else:
            self._step(commit, kind, payload, wrong)

    def _commit(self, record: Recorded, wrong: Callable[[str], None]) -> _Commit:
        payload = record.payload
        name, proposal = _text(payload, "commit_id"), _text(payload, "proposal_id")
        if name not in self.commits:
            self.commits[name] = _Commit(name)
            scope = self._scope(record)
            if scope is not None and _made(commit_id, scope, proposal) != name:
                wrong(f"commit {name} is not the id of proposal {proposal!r} in scope {scope!r}")
        return self.commits[name]

    def _scope(self, record: Recorded) -> str | None:
        stream = getattr(record, "stream", None)
        if self.scope is None and isinstance(stream, str) and stream.startswith("commit/"):
            self.scope = stream.removeprefix("commit/")
        return self.scope

    def _same_proposal(self, commit: _Commit, payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
        proposal, proposal_digest = _text(payload, "proposal_id"), _text(payload, "proposal_digest")
        if commit.proposal is None:
            commit.proposal, commit.proposal_digest = proposal, proposal_digest
        elif (commit.proposal, commit.proposal_digest) != (proposal, proposal_digest):
            wrong(f"commit {commit.name} is of proposal {commit.proposal!r} as it was voted on; this names another")

    def _intent(self, commit: _Commit, payload: Mapping[str, Any], wrong: Callable[[str], None], *, undo: bool) -> None:
        name, index = _text(payload, "idempotency_key"), _integer(payload, "step_index", 0)
        if name in self.keys:
            wrong(_second_intent(name, self.keys[name], payload))
            return
        effect_class, direction = _text(payload, "effect_class"), "undo" if undo else "do"
        if effect_class not in _CLASSES:
            wrong(f"{effect_class!r} is no effect class")
        if payload.get("direction") != direction:
            wrong(f"the direction of this kind is {direction!r}, not {payload.get('direction')!r}")
        expected = None if self.scope is None else _made(idempotency_key, self.scope, commit.proposal, index, direction)
        if expected not in (None, name):
            wrong(f"the key of step {index} ({direction}) is {expected}, not {name}")
        key = _Key(index, undo, commit.name, _text(payload, "step_digest"), effect_class, _text(payload, "undoable"))
        if (index, undo) in commit.keys:
            wrong(f"step {index} ({direction}) of commit {commit.name} has another key already")
            return
        _admitted(commit, payload, index, wrong)
        (_may_undo if undo else _may_do)(commit, key, wrong)
        self.keys[name] = commit.keys[index, undo] = key

    def _step(self, commit: _Commit, kind: str, payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
        name, attempt = _text(payload, "idempotency_key"), _integer(payload, "attempt", 0)
        key = self.keys.get(name)
        if key is None:
            raise _Malformed(f"key {name} has no intent")
        undo = payload.get("direction") == "undo"
        prefixed = kind.startswith("compensation_")
        if (commit.name, payload.get("step_index"), undo) != (key.commit, key.index, key.undo) or (
            kind not in ("in_doubt", "resolved") and prefixed != key.undo
        ):
            wrong(f"key {name} belongs to step {key.index} of commit {key.commit}, this names another step")
        if payload.get("step_digest", key.digest) != key.digest:
            wrong(f"another step than the intent's under key {name}")
        if key.terminal:
            wrong(f"key {name} ended as {key.terminal} before; its terminal record is the last")
            return
        _STEP[kind.removeprefix("compensation_")](key, attempt, payload, wrong)


def _second_intent(name: str, key: _Key, payload: Mapping[str, Any]) -> str:
    what = "another step" if payload.get("step_digest") != key.digest else "a second intent"
    return f"{what} under key {name}, which has an intent already"


def _admitted(commit: _Commit, payload: Mapping[str, Any], index: int, wrong: Callable[[str], None]) -> None:
    """The first intent says what was admitted; a step beyond that was not."""
    admission = payload.get("admission")
    if commit.keys:
        if admission is not None:
            wrong(f"commit {commit.name} was admitted before")
    elif not isinstance(admission, Mapping):
        wrong(f"the first intent of commit {commit.name} carries no admission")
    else:
        commit.steps = _integer(admission, "steps", 1)
        if commit.steps > STEPS_MAX:
            wrong(f"{commit.steps} steps were admitted, the limit is {STEPS_MAX}")
    if index >= (commit.steps or STEPS_MAX):
        raise _Malformed(f"step {index} is beyond the {commit.steps} admitted steps of commit {commit.name}")


def _may_do(commit: _Commit, key: _Key, wrong: Callable[[str], None]) -> None:
    if (failed := commit.first_failed()) is not None:
        wrong(f"step {key.index} begins after step {failed} failed")
    if (missing := commit.first_missing(key.index)) is not None:
        wrong(f"step {key.index} begins before step {missing} is done")


def _may_undo(commit: _Commit, key: _Key, wrong: Callable[[str], None]) -> None:
    failed = commit.first_failed()
    if failed is None:
        wrong(f"step {key.index} is compensated, but no step of commit {commit.name} failed")
        return
    if not commit.is_done(key.index):
        wrong(f"step {key.index} is compensated, but was not done")
    before = [index for index, undo in commit.keys if undo]
    if before and key.index >= min(before):
        wrong(f"step {key.index} is compensated after step {min(before)}; compensation goes from the last to the first")
    for index in commit.to_undo(failed, key.index):
        undone = commit.keys.get((index, True))
        if undone is None or not undone.terminal:
            wrong(f"step {key.index} is compensated before step {index}, which comes first")


def _started(key: _Key, attempt: int, _payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
    if attempt != key.attempt + 1:
        wrong(f"attempt {attempt} follows attempt {key.attempt}; attempts are consecutive")
    if key.open:
        wrong(f"attempt {attempt} is started while attempt {key.attempt} has no end")
    if key.in_doubt:
        wrong(f"attempt {attempt} is started while the key is in doubt; only a human ends that")
    if key.effect_class == "non_verifiable" and attempt > 1 + key.granted:
        wrong(f"attempt {attempt} of a non-verifiable step, for which a human granted {key.granted} after the first")
    key.attempt, key.open = max(key.attempt, attempt), True


def _attempt_failed(key: _Key, attempt: int, _payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
    if not key.open or attempt != key.attempt:
        wrong(f"attempt {attempt} fails, but {_open_of(key)}")
    key.open = False


def _outcome(key: _Key, attempt: int, payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
    status = _text(_mapping(payload, "result"), "status")
    if status not in ("done", "failed"):
        raise _Malformed(f"an outcome is done or failed, not {status!r}")
    if key.attempt == 0 or attempt != key.attempt:
        wrong(f"an outcome of attempt {attempt}, but the last one started is {key.attempt or 'none'}")
    if status == "done" and not key.open:
        wrong(f"attempt {attempt} is done, but {_open_of(key)}")
    if status == "failed" and key.undo:
        wrong("a compensation failed without asking a human")
    if key.in_doubt:
        wrong("an outcome while the key is in doubt; only a human ends that")
    key.open, key.terminal = False, status


def _in_doubt(key: _Key, attempt: int, _payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
    if key.in_doubt:
        wrong("the key is in doubt already")
    if attempt != key.attempt:
        wrong(f"attempt {attempt} is in doubt, but the last one started is {key.attempt or 'none'}")
    key.in_doubt, key.open = True, False


def _resolved(key: _Key, attempt: int, payload: Mapping[str, Any], wrong: Callable[[str], None]) -> None:
    word = _text(_mapping(payload, "result"), "as")
    if word not in ("done", "failed", "retry"):
        raise _Malformed(f"a doubt is resolved as done, failed or retry, not {word!r}")
    if not _text(payload, "agent_id"):
        wrong("resolved by nobody; the record names who spoke")
    if not key.in_doubt:
        wrong("resolved, but the key is not in doubt")
    if attempt != key.attempt:
        wrong(f"attempt {attempt} is resolved, but the last one started is {key.attempt or 'none'}")
    key.in_doubt = False
    if word == "retry":
        key.granted += 1
    else:
        key.terminal = word


def _open_of(key: _Key) -> str:
    return f"attempt {key.attempt} is open" if key.open else "no attempt is open"


def _committed(commit: _Commit, wrong: Callable[[str], None]) -> None:
    if not commit.steps:
        wrong(f"commit {commit.name} was never admitted")
    elif (missing := commit.first_missing(commit.steps)) is not None:
        wrong(f"step {missing} of the {commit.steps} of commit {commit.name} is not done")
    if any(undo for _, undo in commit.keys):
        wrong(f"commit {commit.name} has compensations")


def _compensated(commit: _Commit, wrong: Callable[[str], None]) -> None:
    failed = commit.first_failed()
    if failed is None:
        wrong(f"no step of commit {commit.name} failed")
        return
    for index in commit.to_undo(failed):
        undone = commit.keys.get((index, True))
        if undone is None or not undone.terminal:
            wrong(f"step {index} of commit {commit.name} was done, and is neither undone nor answered for by a human")


_END: Final[Mapping[str, Callable[[_Commit, Callable[[str], None]], None]]] = MappingProxyType(
    {"committed": _committed, "compensated": _compensated}
)
_STEP: Final[Mapping[str, Callable[[_Key, int, Mapping[str, Any], Callable[[str], None]], None]]] = MappingProxyType(
    {
        "started": _started,
        "attempt_failed": _attempt_failed,
        "outcome": _outcome,
        "in_doubt": _in_doubt,
        "resolved": _resolved,
    }
)


def _made(make: Callable[..., str], *parts: Any) -> str:
    """An id made of record fields; what has no canonical form makes none, and so equals none."""
    try:
        return make(*parts)
    except ConfigError as error:
        raise _Malformed(str(error)) from error


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _Malformed(f"{name} is {_shown(value)}, not a text")
    return value


def _integer(data: Mapping[str, Any], name: str, at_least: int) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise _Malformed(f"{name} is {_shown(value)}, not an integer of at least {at_least}")
    return value


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise _Malformed(f"{name} is {_shown(value)}, not an object")
    return value


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
