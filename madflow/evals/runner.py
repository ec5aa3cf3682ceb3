"""Running suites: find the data, do the work that is not done yet, score it, write it down.

    out/.work/…            what was made of each piece of work, line by line (work.py); shared by all suites
    out/SUITE/manifest.json   what the suite's results rest on: digests of data, code and suite, seeds, limit
    out/SUITE/ARM.jsonl    one line a debate
    out/SUITE/results.json the figures (results.py)

The same command resumes a run that was interrupted, however it was: the manifest has to match, or the run is refused
and says what changed; `fresh` starts again. No text of a question or a reply is written anywhere: results name debates
by file and line.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from ..clock import SystemClock
from ..core.protocols.subject import rfc3339
from ..errors import ConfigError, MadflowError, ResumeRefused
from ..prompts import nearest
from .arms import arm_named
from .checking import check_suite
from .ensembles import load_reviews
from .files import make_folder, replace_file, sole_writer
from .loading import load_files
from .metrics import accuracy
from .pool import Progress, each
from .records import Outcome, Recording
from .results import RESULTS, ArmMade, Code, DataFile, Failed, Results
from .scoring import Scorer, partly, stem
from .special import Parts, reviews, simulations
from .stamps import code_stamp, digest_of, file_digest
from .suites import ENDINGS, RECORDED, SWAPS, Group, Suite, list_suites, load_suite, shipped_data
from .work import Failure, Item, Made, Store, cut, item_of, outcomes_of, perform

if TYPE_CHECKING:
    from .load import Row

__all__ = ["MANIFEST", "SEED", "Progress", "Ran", "choose", "outcome_line", "run_suites"]

MANIFEST: Final = "manifest.json"
SEED: Final = 0
_WORK: Final = ".work"
_NAMED_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Ran:
    """A suite that was run: its results, where they are, and what whoever runs it should know at once."""

    suite: str
    path: Path
    results: Results
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Prepared:
    """A suite with its data.

    Attributes:
        pieces: rows a run → key of the first row → a run, or a piece of one.
        items: (arm, rows a run) → key → item.
        cut: rows that are there and were not taken.
    """

    suite: Suite
    digests: dict[str, str]
    files: dict[str, Path]
    rows: list[Row]
    counts: dict[str, int]
    groups: list[Group] = field(default_factory=list)
    pieces: dict[int | None, dict[str, list[Row]]] = field(default_factory=dict)
    items: dict[tuple[str, int | None], dict[str, Item]] = field(default_factory=dict)
    cut: int = 0


@dataclass(frozen=True, slots=True)
class _Taken:
    """What holds for all suites of one command."""

    code: Code
    command: str
    config: Mapping[str, Any]
    began: float


def choose(names: Sequence[str], folders: Sequence[Path]) -> tuple[list[Suite], list[str]]:
    """The suites of these names; "all": every suite on recordings whose files are in the folders.

    Returns:
        The suites, and notes on those of "all" that were left out.

    Raises:
        ConfigError: an unknown name, or a suite's file that cannot be used.
    """
    known = list_suites()
    own = {name: Path(name) for name in names if name.endswith(".toml")}
    unknown = sorted(set(names) - {*known, *own, "all"})
    if unknown:
        near = nearest(unknown[0], (*known, "all"))
        raise ConfigError(f"there is no suite {', '.join(unknown)}{near}; there are {', '.join(known)}, and all")
    known = {**known, **own}
    found = _recordings(folders)
    chosen, notes = [], []
    for name, path in known.items():
        if name not in names and "all" not in names:
            continue
        suite = load_suite(path)
        here = bool(suite.data) and all(data.matching(found) for data in suite.data)
        asked = "all" in names and suite.source not in ("shipped", "live")
        if name in names or (asked and here):
            chosen.append(suite)
        elif asked:
            notes.append(f"suite {name} is left out: not all of its files are in {_listed(folders)}")
    twice = sorted(name for name, count in Counter(suite.name for suite in chosen).items() if count > 1)
    if twice:
        raise ConfigError(f"two suites are called {', '.join(twice)}: their results would be one; rename one of them")
    return chosen, notes


def run_suites(
    suites: Sequence[Suite],
    folders: Sequence[Path],
    out: Path,
    *,
    workers: int = 1,
    limit: int | None = None,
    fresh: bool = False,
    command: str = "",
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[Ran]:
    """Run suites and write their results below `out`.

    Args:
        folders: where recordings are; a suite on shipped data takes none.
        limit: only so many rows of each file, the first ones.
        fresh: forget what is in `out` of these suites, and all kept work.

    Raises:
        ConfigError: data that is missing, unreadable or without gold; an unknown arm or measure.
        ResumeRefused: `out` holds results of the suite on other data, code or settings.
        MadflowError: a file cannot be written, another run writes there, a worker died.
    """
    began = time.monotonic()
    code = code_stamp()
    found = [_find(suite, folders) for suite in suites]
    held = [files for suite, files in zip(suites, found, strict=True) if suite.source != "reviews"]
    paths = sorted({path for files in held for path in files.values()})
    loaded = dict(zip(paths, load_files(paths, workers, on_progress=on_progress), strict=True))
    prepared = [_prepare(suite, files, loaded, limit, code.digest) for suite, files in zip(suites, found, strict=True)]
    with sole_writer(make_folder(out) / _WORK):
        if fresh:
            _forget(out, prepared)
        for one in prepared:
            _claim(out / one.suite.name, _manifest(one, code, limit))
        with Store(out / _WORK, code.digest) as store:
            made = _work(prepared, store, workers, on_progress)
        taken = _Taken(code, command, {"workers": workers, "limit": limit}, began)
        ran: dict[str, Ran] = {}
        on_progress(Progress(0, len(prepared), "scoring"))
        for one, parts in _scored(prepared, made, workers):
            ran[one.suite.name] = _finish(one, parts, out / one.suite.name, taken)
            on_progress(Progress(len(ran), len(prepared), f"scored {one.suite.name}"))
        return [ran[suite.name] for suite in suites]


def _find(suite: Suite, folders: Sequence[Path]) -> dict[str, Path]:
    """Stem to file, of a suite's data; refuses what can be refused before anything is read."""
    check_suite(suite)
    places = [shipped_data()] if suite.source == "shipped" else folders
    stems = _recordings(places)
    missing = [f"{data.label} ({', '.join(data.files)})" for data in suite.data if not data.matching(stems)]
    if missing:
        there = f"{', '.join([*list(stems)[:_NAMED_MAX], *(['…'] if len(stems) > _NAMED_MAX else [])]) or 'none'}"
        fix = f"its recordings (.jsonl, .jsonl.gz) are: {there}; name another folder" if places else "name the folder"
        raise ConfigError(
            f"suite {suite.name}: no file for {', '.join(missing)} in {_listed(places)}; {fix} with --recorded"
        )
    return {one: stems[one] for one in sorted({one for data in suite.data for one in data.matching(stems)})}


def _prepare(
    suite: Suite, files: dict[str, Path], loaded: Mapping[Path, list[Row]], limit: int | None, code: str
) -> _Prepared:
    """Cut a suite's rows into items."""
    digests = {path.name: file_digest(path) for path in files.values()}
    if suite.source == "reviews":
        counts = {path.name: len(load_reviews(path)) for path in files.values()}
        return _Prepared(suite, digests, files, [], counts)
    _check_conditions(suite, {name: loaded[path] for name, path in files.items()})
    rows = {name: loaded[path][:limit] for name, path in files.items()}
    for name, held in rows.items():
        blind = sum(row.recording.gold is None for row in held)
        if blind:
            raise ConfigError(f"{files[name]}: {blind} of {len(held)} rows have no gold to score against; use predict")
    counts = {path.name: len(rows[name]) for name, path in files.items()}
    if not any(counts.values()):
        raise ConfigError(f"suite {suite.name}: no debates are in {', '.join(counts)}; a row is one JSON object a line")
    found = _Prepared(suite, digests, files, [row for held in rows.values() for row in held], counts)
    found.cut = sum(len(loaded[path]) for path in files.values()) - len(found.rows)
    for data in suite.data:
        found.groups += data.groups(files, suite.arms)
        if suite.source == "simulator":
            continue
        most, chosen = data.rows_per_run, [row for name in data.matching(files) for row in rows[name]]
        wanted = set(data.conditions)
        pieces = [
            piece for piece in cut(chosen, most) if not wanted or any(r.recording.condition in wanted for r in piece)
        ]
        known = found.pieces.setdefault(most, {})
        known.update({piece[0].recording.key: piece for piece in pieces})
        for arm in data.arms or suite.arms:
            items = found.items.setdefault((arm, most), {})
            items.update({item.key: item for item in (item_of(arm, piece, digests, code) for piece in pieces)})
    return found


def _check_conditions(suite: Suite, rows: Mapping[str, Sequence[Row]]) -> None:
    """Refuse data that would have no figure at all, since its recordings have other conditions."""
    for data in suite.data:
        there = sorted({row.recording.condition for name in data.matching(rows) for row in rows[name]} - {""})
        if there and data.conditions and not {"", *there}.intersection(data.conditions):
            near = nearest(data.conditions[0], there)
            raise ConfigError(
                f"suite {suite.name}: data {data.label!r}: no debate is of condition {', '.join(data.conditions)}"
                f"{near}; its recordings have {', '.join(there)}: name those under conditions"
            )


def _recordings(folders: Sequence[Path]) -> dict[str, Path]:
    """Stem to file, of all recordings in the folders.

    Raises:
        ConfigError: a folder that is not there, or two files of one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            there = sorted(folder.iterdir()) if folder.is_dir() else None
        except OSError as error:
            raise ConfigError(
                f"{str(folder)[:120]}: cannot be listed ({error.strerror or error}); name another folder"
            ) from error
        if there is None:
            raise ConfigError(f"{folder}: no such folder; name the one that holds the recordings")
        for path in there:
            if path.name.endswith(ENDINGS) and path.is_file():
                if stem(path.name) in found:
                    raise ConfigError(f"{path} and {found[stem(path.name)]} have one name; remove one of them")
                found[stem(path.name)] = path
    return found


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders)) or "any folder (none was given)"


def _manifest(one: _Prepared, code: Code, limit: int | None) -> dict[str, Any]:
    return {
        "madflow": __version__,
        "code": code.digest,
        "suite": digest_of(one.suite.model_dump_json()),
        "limit": limit,
        "seed": SEED,
        "data": one.digests,
    }


def _claim(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a suite that begins; of one that was begun, compare it."""
    path = make_folder(folder) / MANIFEST
    if not path.exists():
        replace_file(path, json.dumps(manifest, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError(f"found {str(before)[:40]!r}, no object")
    except (OSError, ValueError, RecursionError) as error:
        raise ResumeRefused(f"{path}: cannot be read ({error}); use --fresh to start again") from error
    changed = sorted(name for name in {*before, *manifest} if before.get(name) != manifest.get(name))
    if changed:
        raise ResumeRefused(
            f"{folder}: was begun with another {', '.join(changed)}; use --fresh to start again, or another --out"
        )


def _forget(out: Path, prepared: Sequence[_Prepared]) -> None:
    """Remove all kept work, and what is there of these suites."""
    kept = [path for path in (out / _WORK).iterdir() if path.is_dir()]
    for folder in [*kept, *(out / one.suite.name for one in prepared)]:
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise MadflowError(
                f"{folder}: cannot be removed ({error.strerror or error}); remove it, or use another --out"
            ) from error


def _work(
    prepared: Sequence[_Prepared], store: Store, workers: int, on_progress: Callable[[Progress], None]
) -> dict[str, Made]:
    """Key to what was made of an item, for all items; those that several suites need are done once."""
    every = {item.key: item for one in prepared for items in one.items.values() for item in items.values()}
    made = {key: known for key, item in every.items() if (known := store.get(item)) is not None}
    todo = [item for key, item in every.items() if key not in made]
    on_progress(Progress(len(made), len(every), "running"))

    def keep(item: Item, came: Made) -> None:
        store.put(item, came)
        made[item.key] = came
        on_progress(Progress(len(made), len(every), item.name))

    perform(todo, workers, keep)
    return made


def _scored(
    prepared: Sequence[_Prepared], made: Mapping[str, Made], workers: int
) -> Generator[tuple[_Prepared, Parts]]:
    """What each suite came to, those of debates several at once."""
    debated = [one for one in prepared if one.suite.source in ("recorded", "shipped")]
    jobs = [
        (one, {key: made[key] for keyed in one.items.values() for key in keyed})
        for one in sorted(debated, key=lambda one: -len(one.rows) * len(one.suite.arms) * len(one.suite.measures))
    ]
    for (one, _), parts in each(_debated, jobs, workers):
        yield one, parts
    for one in prepared:
        if one.suite.source == "reviews":
            yield one, reviews(one.suite, one.files, SEED)
        elif one.suite.source == "simulator":
            groups = [(group, _recordings_of(group, one.rows)) for group in one.groups]
            yield one, simulations(one.suite, groups, SEED, workers)


def _recordings_of(group: Group, rows: Sequence[Row]) -> list[Recording]:
    held = [row.recording for row in rows if stem(row.file) in group.files]
    return [one for one in held if group.condition in ("", one.condition)]


def _debated(job: tuple[_Prepared, Mapping[str, Made]]) -> Parts:
    """The figures of arms on debates."""
    one, made = job
    suite = one.suite
    outcomes: dict[tuple[str, int | None], dict[str, Outcome]] = {}
    failed: list[Failed] = []
    lines: dict[str, list[dict[str, Any]]] = {}
    for (arm, most), keyed in one.items.items():
        items = list(keyed.values())
        found = [outcome for item in items for outcome in outcomes_of(item, made[item.key])]
        outcomes[arm, most] = {outcome.recording.key: outcome for outcome in found}
        failed += [
            Failed(key=item.name, error=came.error) for item in items if isinstance(came := made[item.key], Failure)
        ]
        lines[f"{arm}.{most}" if most else arm] = [outcome_line(outcome) for outcome in found]
    pieces = {most: list(held.values()) for most, held in one.pieces.items()}
    scored = Scorer(suite, one.rows, outcomes, pieces, one.groups, seed=SEED).score()
    arms = [arm_named(name) for name in suite.arms]
    return Parts(
        scored,
        (
            *(ArmMade(arm=a.name, title=a.title, policy=asdict(a.policy) if a.policy else None) for a in arms),
            *([ArmMade(arm=RECORDED, title="what was said, whatever an arm makes of it")] if suite.recorded else []),
        ),
        lines,
        tuple(failed),
        suite.notes,
        {"items": sum(map(len, one.items.values()))},
    )


def _finish(one: _Prepared, parts: Parts, folder: Path, taken: _Taken) -> Ran:
    """Write a suite's files."""
    suite, scored = one.suite, parts.scored
    warnings = (*_empty(one), *_partial(one, taken.config["limit"]))
    for name, lines in parts.lines.items():
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        replace_file(folder / f"{name}.jsonl", text)
    results = Results(
        suite=suite.name,
        title=suite.title,
        created_at=rfc3339(SystemClock().now_ms()),
        madflow=__version__,
        code=taken.code,
        command=taken.command,
        config={**taken.config, **parts.config, "about": suite.about},
        data=tuple(
            DataFile(file=path.name, sha256=one.digests[path.name], rows=one.counts[path.name])
            for path in one.files.values()
        ),
        seeds={"bootstrap": SEED},
        elapsed_s=round(time.monotonic() - taken.began, 3),
        arms=parts.arms,
        measures=scored.measures,
        comparisons=scored.comparisons,
        rounds=scored.rounds,
        targets=tuple(map(partly, scored.targets)) if one.cut else scored.targets,
        failed=parts.failed,
        notes=(*parts.notes, *warnings, *_unswapped(suite)),
    )
    replace_file(folder / RESULTS, json.dumps(results.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return Ran(suite.name, folder / RESULTS, results, warnings)


def _empty(one: _Prepared) -> tuple[str, ...]:
    """A note on the groups that have no debates, and so no figures."""
    held = [group for group in one.groups if not _recordings_of(group, one.rows)]
    if not held:
        return ()
    named = "; ".join(f"{group.label}, condition {group.condition or 'any'}" for group in held)
    there = sorted({row.recording.condition or "none" for row in one.rows})
    return (f"No debates, so no figures: {named}. The conditions of the recordings are: {', '.join(there)}.",)


def _partial(one: _Prepared, limit: int | None) -> tuple[str, ...]:
    """A note where the first rows only were taken."""
    if not (one.cut and one.suite.target):
        return ()
    return (f"No target is judged: --limit {limit} took {len(one.rows)} of {len(one.rows) + one.cut} debates.",)


def _unswapped(suite: Suite) -> tuple[str, ...]:
    """A note on each figure that data lacks because it leaves out the arm which the measure names."""
    swaps = [(name, name.partition(":")[2]) for name in suite.measures if name.startswith(f"{SWAPS}:")]
    return tuple(
        f"No {name} on data {data.label}: its arms leave out {arm}."
        for data in suite.data
        for name, arm in swaps
        if data.arms and arm not in data.arms
    )


def outcome_line(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a line of the arm's file: names and figures, no text of the question or of a reply."""
    recording = outcome.recording
    return {
        "key": recording.key,
        "run": recording.run,
        "condition": recording.condition,
        "answer": outcome.answer,
        "tied": list(outcome.tied),
        "right": accuracy([outcome])[0].part,
        "abstained": outcome.abstained,
        "confidence": outcome.confidence,
        "suspicion": outcome.suspicion,
        "decided": outcome.decided,
        "stop_reason": outcome.stop_reason,
        "rounds": outcome.rounds,
        "calls": outcome.calls,
        "tokens": outcome.tokens,
    }
