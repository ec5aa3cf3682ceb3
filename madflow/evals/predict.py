"""Predictions: recorded debates in, one line each out; nothing that scoring knows is needed, and nothing of it is read.

    {"task_id", "run", "answer", "abstained", "confidence", "stop_reason", "rounds", "calls", "tokens"}

in the order of folders, files and rows. `answer` is the option's letter where there are options, else the answer as the
recording spells it most often (1/4, where its normal form is 0.25); null where there is none. `tokens` are
characters / 4 of every prompt and reply that the policy asked for.

Rows of one run of one file are predicted together, since reliabilities are learned across them; a file whose rows name
no run is one run. Predictions depend on what was said and on nothing else: not on the names of files, runs, rows and
seats, nor on the order of rows and seats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, MadflowError
from ..prompts import nearest
from .arms import ARMS
from .loading import load_files
from .pool import Progress
from .scoring import stem
from .work import Failure, Item, Made, cut, outcomes_of, perform

if TYPE_CHECKING:
    from .load import Row
    from .records import Outcome

__all__ = ["predict", "recorded_files"]

_ENDING: Final = ".jsonl.gz"


def recorded_files(recorded: Path | Sequence[Path]) -> list[Path]:
    """The *.jsonl.gz of one folder or several, by name, in the order of the folders; a file is taken as it is.

    Raises:
        ConfigError: there is nothing at a path, or no such file in a folder; two files of one name, which predictions
            could not tell apart.
    """
    found: dict[str, Path] = {}
    for place in [recorded] if isinstance(recorded, Path) else recorded:
        for file in _files(place):
            name = stem(file.name)
            if name in found:
                raise ConfigError(f"{file} and {found[name]} have one name; rename or leave out one of them")
            found[name] = file
    return list(found.values())


def _files(place: Path) -> list[Path]:
    try:
        if place.is_file():
            return [place]
        found = sorted(place.iterdir()) if place.is_dir() else None
    except OSError as error:
        raise ConfigError(f"{str(place)[:120]}: cannot be listed ({error.strerror or error}); name another") from error
    if found is None:
        raise ConfigError(f"{place}: no such folder; name the one that holds the recordings")
    packed = [one for one in found if one.name.endswith(_ENDING) and one.is_file()]
    if not packed:
        raise ConfigError(f"{place}: holds no *{_ENDING}; compress the recordings, or name one file")
    return packed


def predict(
    recorded: Path | Sequence[Path],
    policy: str = "robust",
    *,
    workers: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[dict[str, Any]]:
    """What a policy makes of recorded debates, one entry a debate.

    Args:
        recorded: a folder with *.jsonl.gz, or one file; or several of them.
        policy: the name of a policy, or of any other arm.
        workers: processes.

    Raises:
        ConfigError: an unknown policy, no recordings or no rows in them, two files of one name, or a row that cannot be
            read; names file and line.
        MadflowError: a run could not be held again, or a worker process died. There is then no prediction at all.
    """
    if policy not in ARMS:
        raise ConfigError(f"there is no policy {policy!r}{nearest(policy, ARMS)}; there are {', '.join(ARMS)}")
    files = recorded_files(recorded)
    loaded = load_files(files, workers, scored=False, on_progress=on_progress)
    rows = [row for of_file in loaded for row in of_file]
    if not rows:
        raise ConfigError(f"no debates are in {', '.join(map(str, files))}; a file has one JSON object a line")
    items = [Item(str(number), policy, tuple(run)) for number, run in enumerate(cut(rows))]
    made: dict[str, Outcome] = {}
    done = 0

    def take(item: Item, came: Made) -> None:
        nonlocal done
        if isinstance(came, Failure):
            raise MadflowError(f"{item.name}: {came.error}; no prediction was made")
        made.update((one.recording.key, one) for one in outcomes_of(item, came))
        done += 1
        on_progress(Progress(done, len(items), item.name))

    perform(items, workers, take)
    return [_prediction(row, made[row.recording.key]) for row in rows]


def _prediction(row: Row, outcome: Outcome) -> dict[str, Any]:
    return {
        "task_id": row.task_id,
        "run": row.run,
        "answer": None if outcome.answer is None else row.spelled.get(outcome.answer, outcome.answer),
        "abstained": outcome.abstained,
        "confidence": outcome.confidence,
        "stop_reason": outcome.stop_reason,
        "rounds": outcome.rounds,
        "calls": outcome.calls,
        "tokens": outcome.tokens,
    }
