"""`madflow eval`: list the suites, run them, render their results, predict."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .evals_live import LiveOptions, live_options, run_live_suite
from .exits import DONE, ERROR, OUT_OF_BUDGET
from .options import check_out
from .output import note, print_text, write_lines
from .progress import minutes
from .text import json_text, one_line

if TYPE_CHECKING:
    from ..evals.results import TargetMeasured
    from ..evals.runner import Progress, Ran

__all__ = ["command", "list_", "predict", "report", "run"]

_LINE_EVERY_S: Final = 5.0
_PATHS: Final = click.Path(path_type=Path)
_STDOUT: Final = "-"

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
_workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), default=None, help="Processes (default: one a processor)."
)
_quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress.")


@click.group("eval")
def command() -> None:
    """How good debates are: suites on recorded or live models, their report, and predictions."""


@command.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """List the suites that ship, with their arms and what they need."""
    from ..evals.suites import list_suites, load_suite

    suites = [load_suite(path) for path in list_suites().values()]
    if as_json:
        body = [
            {
                "suite": suite.name,
                "title": suite.title,
                "about": suite.about,
                "source": suite.source,
                "files": sorted({name for data in suite.data for name in data.files}),
                "arms": list(suite.arms),
                "targets": len(suite.target),
            }
            for suite in suites
        ]
        print_text(json_text({"suites": body}))
        return
    rows = [
        (suite.name, suite.source, " ".join(sorted({name for data in suite.data for name in data.files})), suite.title)
        for suite in suites
    ]
    print_text(_table(("suite", "data", "files", "what it measures"), rows))


@command.command("run")
@click.argument("suites", metavar="SUITE...", nargs=-1, required=True)
@click.option(
    "--recorded", metavar="DIR", multiple=True, type=_PATHS, help="A folder with recordings; may be repeated."
)
@click.option("--out", metavar="DIR", type=_PATHS, default=Path("results"), show_default=True, help="Results go here.")
@_workers_option
@click.option("--limit", type=click.IntRange(1), default=None, help="Only the first so many rows of each file.")
@click.option("--fresh", is_flag=True, help="Start again: forget the suites' results and all kept work.")
@live_options
@_json_option
@_quiet_option
def run(
    *,
    suites: tuple[str, ...],
    recorded: tuple[Path, ...],
    out: Path,
    workers: int | None,
    limit: int | None,
    fresh: bool,
    as_json: bool,
    quiet: bool,
    **live: Any,
) -> int:
    """Run suites (`all`: every one whose recordings are in DIR) and write OUT/SUITE/results.json.

    Whatever interrupts it, the same command goes on where it was. What fails is kept as failed, stays in every
    denominator, and makes the exit code 1. A live suite (--data, --model) asks models on your own questions, and pays
    for none twice; one that is out of budget exits with 4, and goes on under a higher cap.
    """
    from ..errors import BudgetExceeded, ConfigError
    from ..evals.pool import cores
    from ..evals.runner import choose, run_suites

    options = LiveOptions(**live)
    chosen, left_out = choose(suites, recorded)
    if not chosen:
        raise ConfigError("no suite has all of its files there: " + "; ".join(left_out))
    asking = [suite for suite in chosen if suite.source == "live"]
    if options.given and not asking:
        raise click.UsageError("--data, --model and their caps go with a live suite; `madflow eval list` shows them")
    if asking:
        _check_live(asking[0].name, alone=len(chosen) == 1 and not fresh, offline=bool(recorded or workers))
    for line in left_out:
        note(line)
    with _progress(quiet=quiet, interrupted="what was finished is kept: the same command goes on") as show:
        if asking:
            try:
                ran = [run_live_suite(asking[0], options, out, limit, show)]
            except BudgetExceeded as error:
                note(f"{error}; the debates so far are kept: the same command with a higher cap goes on")
                return OUT_OF_BUDGET
        else:
            ran = run_suites(
                chosen,
                recorded,
                out,
                workers=workers or cores(),
                limit=limit,
                fresh=fresh,
                command=_command_line(suites, recorded, out, workers, limit),
                on_progress=show,
            )
    if as_json:
        print_text(json_text({"out": str(out), "left_out": left_out, "suites": [_brief(one) for one in ran]}))
    else:
        print_text(_summary(ran, out))
    _warn(ran)
    return ERROR if any(one.results.failed for one in ran) else DONE


@command.command("report")
@click.argument("results", metavar="DIR", type=_PATHS)
@click.option("--out", metavar="DIR", type=_PATHS, default=None, help="Where the pages go (default: DIR).")
@_json_option
def report(results: Path, out: Path | None, as_json: bool) -> None:
    """Render the results below DIR: tables here, and a self-contained HTML page and SVG plots for each suite."""
    from ..evals.results import read_results
    from ..report import render_all, text_tables

    written = render_all(results, out)
    if as_json:
        print_text(json_text({"written": [str(path) for path in written]}))
        return
    found = sorted(path.parent for path in results.glob("*/results.json"))
    print_text("\n".join(text_tables(read_results(path)) for path in found))
    note(f"wrote {len(written)} files below {out or results}")


@command.command("predict")
@click.option(
    "--recorded",
    metavar="DIR",
    multiple=True,
    required=True,
    type=_PATHS,
    help="A folder with *.jsonl.gz, or one file; may be repeated.",
)
@click.option("--policy", metavar="NAME", default="robust", show_default=True, help="A policy, or another arm.")
@click.option(
    "--out", metavar="FILE", required=True, type=_PATHS, help="Predictions, one JSON line a debate; - is stdout."
)
@_workers_option
@_json_option
@_quiet_option
def predict(
    *, recorded: tuple[Path, ...], policy: str, out: Path, workers: int | None, as_json: bool, quiet: bool
) -> None:
    """Say what a policy makes of recorded debates.

    Gold, condition and adversary flags may be missing from them, and are not read. FILE appears whole, or not at all;
    with `--out -` the predictions alone are on stdout.
    """
    from ..evals.pool import cores
    from ..evals.predict import predict as predict_all

    file = None if str(out) == _STDOUT else out
    if file is None and as_json:
        raise click.UsageError("--json and --out - both want stdout; name a file with --out, or leave out --json")
    if file is not None:
        _check_predictions(file, recorded)
    began = time.monotonic()
    with _progress(quiet=quiet, interrupted=f"{out} was not written" if file else "nothing was written") as show:
        found = predict_all(recorded, policy, workers=workers or cores(), on_progress=show)
    write_lines(file, (json.dumps(one, ensure_ascii=False, allow_nan=False) for one in found))
    abstained = sum(one["abstained"] for one in found)
    if as_json:
        elapsed = round(time.monotonic() - began, 3)
        body = {"out": str(out), "policy": policy, "debates": len(found), "abstained": abstained, "elapsed_s": elapsed}
        print_text(json_text(body))
    elif file is not None:
        print_text(f"{len(found)} predictions by {policy}, {abstained} of them abstained: {out}\n")
    elif not quiet:
        note(f"{len(found)} predictions by {policy}, {abstained} of them abstained")


def _check_predictions(out: Path, recorded: Sequence[Path]) -> None:
    """Refuse, before anything is read, a file that cannot be written, or that is a recording."""
    from ..errors import ConfigError
    from ..evals.predict import recorded_files

    check_out(out)
    files = recorded_files(recorded)
    if out.exists() and any(out.samefile(file) for file in files):
        raise ConfigError(f"--out {out} is one of the recordings; give the predictions a file of their own")
    if out.suffix == ".gz":
        raise ConfigError(f"--out {out}: predictions are written uncompressed; name a file without .gz")


def _command_line(
    suites: Sequence[str], recorded: Sequence[Path], out: Path, workers: int | None, limit: int | None
) -> str:
    """The command as it can be typed again; it resumes, so without --fresh."""
    words = ["madflow", "eval", "run", *suites]
    for folder in recorded:
        words += ["--recorded", str(folder)]
    words += ["--out", str(out)]
    words += ["--workers", str(workers)] if workers else []
    words += ["--limit", str(limit)] if limit else []
    return shlex.join(words)


def _check_live(suite: str, *, alone: bool, offline: bool) -> None:
    """Refuse what a live suite has no use for."""
    if not alone:
        raise click.UsageError(f"suite {suite} is live: run it alone, without --fresh; its debates are paid")
    if offline:
        raise click.UsageError(
            f"suite {suite} asks models your own questions (--data): leave out --recorded and --workers, which go with "
            "suites on recordings"
        )


def _warn(ran: Sequence[Ran]) -> None:
    """What was not measured or judged, and what failed, on stderr."""
    for one in ran:
        for line in one.warnings:
            note(f"{one.suite}: {one_line(line, 300)}")
        for failed in one.results.failed:
            note(f"{one.suite}: {one_line(failed.key)} failed: {one_line(failed.error)}")


def _brief(one: Ran) -> dict[str, Any]:
    results = one.results
    return {
        "suite": one.suite,
        "results": str(one.path),
        "elapsed_s": results.elapsed_s,
        "debates": sum(file.rows for file in results.data),
        "failed": [failed.model_dump() for failed in results.failed],
        "targets": [target.model_dump(mode="json") for target in results.targets],
    }


def _summary(ran: Sequence[Ran], out: Path) -> str:
    from ..report.view import met_of, verdict

    lines = []
    for one in ran:
        results = one.results
        targets = f", {met_of(results.targets)}" if results.targets else ""
        failed = f", {len(results.failed)} pieces of work FAILED" if results.failed else ""
        lines.append(f"{one.suite}: {sum(f.rows for f in results.data)} debates{targets}{failed}: {one.path}")
        lines += [f"  {verdict(target):<12} {_target_line(target)}" for target in results.targets]
    lines.append(f"Tables and plots: {shlex.join(['madflow', 'eval', 'report', str(out)])}")
    return "\n".join(lines) + "\n"


def _target_line(target: TargetMeasured) -> str:
    from ..evals.results import shown

    value = f" {shown(target, costs=target.target.startswith('<'))}" if target.why != "no data" else ""
    on = "" if target.n is None else f", on {target.n:,} debates"
    why = f" ({target.why})" if target.why and target.met is not None else ""
    return one_line(f"{target.name}: {target.arm}, {target.measure}{value}, target {target.target}{on}{why}", 400)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = StringIO()
    console = Console(file=out, width=120, highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in head:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell, 300)) for cell in row))
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@contextmanager
def _progress(*, quiet: bool, interrupted: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr where that is a terminal, else a line every few seconds. When stderr is gone, nothing more.

    Args:
        interrupted: what to say when Ctrl-C ends the block.
    """
    try:
        if quiet:
            yield lambda progress: None
        elif sys.stderr.isatty():
            with _bar() as show:
                yield show
        else:
            yield _Lines()
    except KeyboardInterrupt:
        note(interrupted)
        raise


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            doing = escape(one_line(progress.doing, 60))
            bar.update(task, completed=progress.done, total=progress.total, description=doing)

        yield show


class _Lines:
    """One line every few seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = 0.0
        self._total = -1
        self._broken = False

    def __call__(self, progress: Progress) -> None:
        elapsed = time.monotonic() - self._began
        goes_on = progress.total == self._total and progress.done < progress.total
        if self._broken or (goes_on and elapsed - self._last < _LINE_EVERY_S):
            return
        self._last, self._total = elapsed, progress.total
        try:
            line = f"{minutes(elapsed)} {progress.done} of {progress.total} {one_line(progress.doing, 80)}"
            print(line, file=sys.stderr, flush=True)
        except OSError:
            self._broken = True  # nobody reads stderr any more; the run does not depend on it
