"""Work: one arm on one run. Processes of a pool do it, and what comes of it is kept, so that no work is done twice.

An item is an arm and the rows of one run, or of a piece of it; reliabilities are learned inside it, so it is never
split further. Its key is a digest of all that decides what comes of it: the code, the arm, and each row as the
name and digest of its file and its line. What was made stands in one line of `ARM.jsonl` in the folder of the kept
work, under that key: an interrupted run finds it there, and so does another suite that needs the same.

An item that fails (an error of an arm, not of the machine) is kept as failed, so that its debates stay in every
denominator; the next run tries it again. A worker process that dies ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import MadflowError
from .arms import arm_named, run_arm
from .files import Lines, make_folder
from .pool import each
from .records import Outcome, Recording, tokens
from .stamps import digest_of

if TYPE_CHECKING:
    from .load import Row

__all__ = ["Failure", "Item", "Kept", "Made", "Store", "cut", "item_of", "outcomes_of", "perform"]

_ERROR_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Kept:
    """An `Outcome` without its recording, as it is kept."""

    tied: tuple[str, ...]
    abstained: bool
    confidence: float
    suspicion: float
    stop_reason: str
    rounds: int
    calls: int
    tokens: float
    decided: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item failed."""

    error: str


Made: TypeAlias = tuple[Kept, ...] | Failure


@dataclass(frozen=True, slots=True)
class Item:
    """One arm on the rows of one run. `key`: the digest of what decides the outcome; `name`: for people."""

    key: str
    arm: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.rows[0].recording.run}" if self.rows else self.arm

    @property
    def size(self) -> int:
        """Recorded replies: what the longest item first is judged by."""
        return sum(len(spoken) for row in self.rows for spoken in row.recording.debated.rounds)


def item_of(arm: str, rows: Sequence[Row], digests: dict[str, str], code: str) -> Item:
    """The item of an arm on rows of one run.

    Args:
        digests: file name to the digest of its bytes; code: the digest of the code.
    """
    where = [[row.file, digests[row.file], row.line] for row in rows]
    return Item(digest_of(json.dumps([code, arm, where])), arm, tuple(rows))


def cut(rows: Iterable[Row], rows_per_run: int | None = None) -> list[list[Row]]:
    """The rows of each run, in their order, runs in order of their first row; or pieces of at most so many rows."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row.recording.run, []).append(row)
    if rows_per_run is None:
        return list(runs.values())
    return [run[at : at + rows_per_run] for run in runs.values() for at in range(0, len(run), rows_per_run)]


def outcomes_of(item: Item, made: Made) -> list[Outcome]:
    """The outcomes of an item's rows, in order; of a failed one, outcomes without an answer at the full cost."""
    recordings: list[Recording] = [row.recording for row in item.rows]
    if isinstance(made, Failure):
        made = tuple(_failed(recording) for recording in recordings)
    return [
        Outcome(
            recording=recording,
            tied=kept.tied,
            abstained=kept.abstained,
            confidence=kept.confidence,
            suspicion=kept.suspicion,
            stop_reason=kept.stop_reason,
            rounds=kept.rounds,
            calls=kept.calls,
            tokens=kept.tokens,
            decided=kept.decided,
        )
        for recording, kept in zip(recordings, made, strict=True)
    ]


def _failed(recording: Recording) -> Kept:
    """A debate of a failed item: no answer, at what the whole recording cost, and sure of itself. Nothing that is
    measured gets better by failing."""
    calls = sum(map(len, recording.debated.rounds))
    rounds = len(recording.debated.rounds)
    return Kept((), True, 1.0, 0.0, "failed", rounds, calls, tokens(recording), False)


class Store:
    """The kept work of one state of the code: a file of lines for each arm, in a folder named by the code's digest.

    Raises:
        MadflowError: a file cannot be read or written, or holds what no run wrote.
    """

    def __init__(self, folder: Path, code: str) -> None:
        self._folder = make_folder(folder / code[:16])
        self._files: dict[str, Lines] = {}
        self._made: dict[str, Made] = {}

    def get(self, item: Item) -> Made | None:
        """What was made of an item; None where nothing was, or it failed and is to be tried again."""
        self._open(item.arm)
        made = self._made.get(item.key)
        return None if isinstance(made, Failure) else made

    def put(self, item: Item, made: Made) -> None:
        """Keep it; it is on the disk when this returns."""
        body: dict[str, Any] = (
            {"error": made.error} if isinstance(made, Failure) else {"outcomes": [astuple(kept) for kept in made]}
        )
        self._open(item.arm).append({"item": item.key, **body})
        self._made[item.key] = made

    def close(self) -> None:
        """Close every file. Raises the first MadflowError of `Lines.close`, the others as its notes."""
        failed: list[MadflowError] = []
        for file in self._files.values():
            try:
                file.close()
            except MadflowError as error:
                failed.append(error)
        self._files.clear()
        if failed:
            for other in failed[1:]:
                failed[0].add_note(str(other))
            raise failed[0]

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MadflowError as second:
            if error is None:
                raise
            for note in (str(second), *getattr(second, "__notes__", ())):
                error.add_note(note)  # what went wrong first is what is to be told

    def _open(self, arm: str) -> Lines:
        if arm not in self._files:
            path = self._folder / f"{arm}.jsonl"
            self._files[arm] = lines = Lines(path)
            for number, entry in enumerate(lines.entries, start=1):
                try:
                    self._made[entry["item"]] = _made_of(entry)
                except (KeyError, TypeError, ValueError) as error:
                    raise MadflowError(f"{path}:{number}: nothing that a run wrote ({error!r}); use --fresh") from error
            lines.entries.clear()
        return self._files[arm]


def _made_of(entry: dict[str, Any]) -> Made:
    if "error" in entry:
        return Failure(str(entry["error"]))
    return tuple(Kept(tuple(tied), *rest) for tied, *rest in entry["outcomes"])


def perform(items: Sequence[Item], workers: int, done: Callable[[Item, Made], None]) -> None:
    """Do the items, the longest first, and hand each one over as it is done, in this process and one at a time.

    Args:
        workers: processes; with 1, everything happens in this one.

    Raises:
        MadflowError: a worker process died. What `done` raises, and KeyboardInterrupt: the workers are then ended.
    """
    with closing(each(_make, sorted(items, key=lambda item: -item.size), workers)) as results:
        for item, made in results:
            done(item, made)


def _make(item: Item) -> Made:
    """In a worker: run an arm, and say what came of it without what the parent already has."""
    try:
        made = run_arm(arm_named(item.arm), item.rows)
    except (OSError, MemoryError):
        raise  # of the machine: the run ends, and goes on by the same command
    except Exception as error:  # whatever an arm does to one run must not lose the others
        return Failure(f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX])
    return tuple(
        Kept(o.tied, o.abstained, o.confidence, o.suspicion, o.stop_reason, o.rounds, o.calls, o.tokens, o.decided)
        for o in made
    )
