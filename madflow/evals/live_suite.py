"""A suite on live models: the user's questions under every arm, one ledger, one results.json.

    out/SUITE/ledger.db       the debates; with them an interrupted run goes on, and what was paid is not paid again
    out/SUITE/ARM.jsonl       one line a question
    out/SUITE/results.json    the figures

The suite's arms are held one after the other, in its order; `vote-equal` needs what came before it was paid for, so it
stands behind `vote` and the arm it is to equal (`debate`). The caps are of the whole run: a debate is begun only while
its own worst case still fits under what is left. A run that is out of budget writes no figures, says how far it came,
and goes on under a higher cap.

A measure is of the arm's own debates: `gain` is over the first round of the same debate, not over another arm's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .. import __version__
from ..clock import SystemClock
from ..core.protocols.subject import rfc3339
from ..errors import BudgetExceeded, ConfigError
from ..models.http_pool import aclose_all
from . import metrics
from .arms import Arm
from .bootstrap import Item, estimate
from .dataset import Question
from .files import make_folder, replace_file, sole_writer
from .live import Held, Panel, equal_seats, hold_arm, live_arm
from .measuring import measure_named
from .results import RESULTS, ArmMade, Comparison, DataFile, Failed, Measured, Results, figures
from .runner import SEED, Progress, Ran, outcome_line
from .stamps import code_stamp, file_digest
from .suites import Suite

__all__ = ["Caps", "LiveRun", "run_live"]

_LEDGER: Final = "ledger.db"
_EQUAL: Final = "vote-equal"
_SWAPS: Final = ("judge", "judge-swapped")


@dataclass(frozen=True, slots=True)
class Caps:
    """What a whole run may cost: tokens, and money in 10⁻⁹ dollars; None: only each debate is capped."""

    tokens: int | None = None
    usd_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What is run: a suite's arms on questions, all with gold, by a panel. `data`: the file they came from."""

    suite: Suite
    data: Path
    questions: tuple[Question, ...]
    panel: Panel


class _Spending:
    """What the run's debates cost, against its caps: a debate waits until its own worst case fits under what is left.

    Args:
        total: how many debates the run has.
    """

    def __init__(self, caps: Caps, panel: Panel, total: int, show: Callable[[Progress], None]) -> None:
        self._caps, self._panel, self._total, self._show = caps, panel, total, show
        self._tokens = self._usd_nanos = self._done = self._running = 0
        self._changed = asyncio.Condition()
        self.doing = ""

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None, None]:
        """Room for one debate. Raises BudgetExceeded where there is none and none will come free."""
        async with self._changed:
            while (lacking := self._lacking()) is not None:
                if self._running == 0:
                    raise lacking
                await self._changed.wait()
            self._running += 1
        try:
            yield
        finally:
            async with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def add(self, held: Held) -> None:
        """Count a question that ended."""
        self._tokens += held.spent.tokens
        self._usd_nanos += held.spent.usd_nanos or 0
        self._done += 1
        self._show(Progress(self._done, self._total, self.doing))

    def _lacking(self) -> BudgetExceeded | None:
        one, caps = self._panel.budget, self._caps
        for name, spent, cap, most in (
            ("tokens", self._tokens, caps.tokens, one.tokens),
            ("usd_nanos", self._usd_nanos, caps.usd_nanos, one.usd_nanos),
        ):
            needed = spent + (self._running + 1) * (most or 0)
            if cap is not None and needed > cap:
                return BudgetExceeded(name, cap, needed)
        return None


def run_live(
    live: LiveRun,
    out: Path,
    *,
    caps: Caps | None = None,
    at_once: int = 8,
    command: str = "",
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Ran:
    """Hold a live suite's arms and write its results below `out`.

    Raises:
        ConfigError: no question, a question without gold, an arm out of place.
        BudgetExceeded: the run's cap; the same command with a higher one goes on.
        UsageError and its kinds: what can be known before the first call.
        LedgerError, MadflowError: a file cannot be written, or another run writes there.
    """
    began = time.monotonic()
    _check(live)
    if caps is not None and caps.tokens is not None and caps.tokens < live.panel.budget.tokens:
        raise ConfigError(
            f"the run's cap of {caps.tokens} tokens is below that of one debate ({live.panel.budget.tokens}): none "
            "could begin; raise --tokens, or lower --debate-tokens"
        )
    if caps is not None and caps.usd_nanos is not None and live.panel.budget.usd_nanos is None:
        raise ConfigError("a cap on the run's money needs one on each debate's; give the panel's budget usd=")
    folder = make_folder(out / live.suite.name)
    spending = _Spending(caps or Caps(), live.panel, len(live.questions) * len(live.suite.arms), on_progress)
    with sole_writer(folder / ".live"):
        held, seats = asyncio.run(_hold_all(live, folder, spending, at_once))
        for arm, made in held.items():
            lines = (json.dumps(outcome_line(one.outcome), ensure_ascii=False) + "\n" for one in made)
            replace_file(folder / f"{arm}.jsonl", "".join(lines))
        results = _results(live, held, seats, command, time.monotonic() - began)
        body = json.dumps(results.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        replace_file(folder / RESULTS, body + "\n")
    return Ran(live.suite.name, folder / RESULTS, results)


def _check(live: LiveRun) -> None:
    suite, data = live.suite, live.data
    if not live.questions:
        raise ConfigError(f"{data} holds no question; see docs/reference/eval-data.md")
    blind = [question.task_id for question in live.questions if question.gold is None]
    if blind:
        raise ConfigError(f"{data}: {len(blind)} of {len(live.questions)} questions have no gold (first: {blind[0]})")
    twice = [name for name, count in Counter(question.task_id for question in live.questions).items() if count > 1]
    if twice:
        raise ConfigError(f"{data}: {len(twice)} questions share an id (first: {twice[0]}); give each its own")
    wrong = [question.task_id for question in live.questions if bool(question.options) != (suite.answers == "choice")]
    if wrong:
        kind = "questions with options" if suite.answers == "choice" else "open questions"
        raise ConfigError(f"{data}: suite {suite.name} takes {kind}; {len(wrong)} are none (first: {wrong[0]})")
    for name in suite.arms:
        live_arm(name)
    for name in suite.measures:
        measure_named(name)
    for one in suite.comparison:
        for name in one.measures:
            if measure_named(name).of != "outcomes" or measure_named(name).items is None:
                raise ConfigError(f"suite {suite.name}: measure {name} cannot be compared between debates; drop it")
    if _EQUAL in suite.arms:
        before = suite.arms[: suite.arms.index(_EQUAL)]
        if not {"vote", "debate"}.issubset(before):
            raise ConfigError(f"suite {suite.name}: {_EQUAL} stands behind vote and debate, whose cost it equals")


async def _hold_all(
    live: LiveRun, folder: Path, spending: _Spending, at_once: int
) -> tuple[dict[str, list[Held]], dict[str, int]]:
    from ..ledger.sqlite import open_ledger

    held: dict[str, list[Held]] = {}
    seats: dict[str, int] = {}
    size = live.panel.size
    try:
        with open_ledger(folder / _LEDGER) as ledger:
            for name in live.suite.arms:
                arm = live_arm(name)
                count = equal_seats(held["debate"], held["vote"], size) if name == _EQUAL else size
                seats[name] = arm.seats_max or count
                spending.doing = name
                held[name] = await hold_arm(
                    arm,
                    live.questions,
                    live.panel,
                    ledger,
                    kind=live.suite.answers,
                    seats=count,
                    at_once=at_once,
                    place=spending.place,
                    on_done=spending.add,
                )
    finally:
        await aclose_all()
    return held, seats


def _results(
    live: LiveRun, held: Mapping[str, Sequence[Held]], seats: Mapping[str, int], command: str, elapsed_s: float
) -> Results:
    suite, data, panel = live.suite, live.data, live.panel
    group = {"data": data.name, "condition": "live"}
    models = [getattr(model, "name", "") or str(model) for model in panel.models]
    failed = [
        Failed(key=one.outcome.recording.key, error=one.error) for made in held.values() for one in made if one.error
    ]
    return Results(
        suite=suite.name,
        title=suite.title,
        created_at=rfc3339(SystemClock().now_ms()),
        madflow=__version__,
        code=code_stamp(),
        command=command,
        config={
            "about": suite.about,
            "models": models,
            "agents": panel.size,
            "seats": dict(seats),
            "max_output_tokens": panel.max_output_tokens,
            "debate": panel.budget.model_dump(),
        },
        data=(DataFile(file=data.name, sha256=file_digest(data), rows=len(live.questions)),),
        seeds={"bootstrap": SEED},
        elapsed_s=round(elapsed_s, 3),
        arms=tuple(_made(live_arm(name)) for name in suite.arms),
        measures=tuple(_measures(suite, group, held)),
        comparisons=tuple(_comparisons(suite, group, held)),
        failed=tuple(failed),
        notes=(*suite.notes, *_unreported(held)),
    )


def _unreported(held: Mapping[str, Sequence[Held]]) -> list[str]:
    notes = []
    for arm, made in held.items():
        total, open_ = (sum(getattr(one.spent, part) for one in made) for part in ("tokens", "unreported"))
        if open_:
            notes.append(
                f"{arm}: {open_} of {total} tokens were reported by nobody (failed or refused calls) and count as they "
                "were reserved: what this arm costs is overstated"
            )
    return notes


def _made(arm: Arm) -> ArmMade:
    return ArmMade(arm=arm.name, title=arm.title, policy=asdict(arm.policy) if arm.policy else None)


def _measures(suite: Suite, group: dict[str, str], held: Mapping[str, Sequence[Held]]) -> list[Measured]:
    found = []
    for arm, made in held.items():
        outcomes = [one.outcome for one in made]
        for name in suite.measures:
            measure = measure_named(name)
            cases: Sequence[Any] = outcomes if measure.of == "outcomes" else [one.recording for one in outcomes]
            figure = measure.figure(cases, seed=SEED)
            questions = figure.interval.questions
            found.append(
                Measured(
                    group=group, arm=arm, measure=name, n=figure.n, questions=questions, **figures(figure.interval)
                )
            )
        priced = [
            Item(one.outcome.recording.question, one.spent.usd_nanos / 10**9)
            for one in made
            if one.spent.usd_nanos is not None
        ]
        found.append(_item_measure(group, arm, "usd", priced))
    if all(arm in held for arm in _SWAPS):
        pairs = zip(*(held[arm] for arm in _SWAPS), strict=True)
        judged = [(a.outcome.recording.question, a.outcome.answer, b.outcome.answer) for a, b in pairs]
        found.append(_item_measure(group, _SWAPS[0], "swap_consistency", metrics.swap_consistency(judged)))
    return found


def _item_measure(group: dict[str, str], arm: str, name: str, items: Sequence[Item]) -> Measured:
    interval = estimate(items, seed=SEED, share=name == "swap_consistency")
    return Measured(group=group, arm=arm, measure=name, n=len(items), questions=interval.questions, **figures(interval))


def _comparisons(suite: Suite, group: dict[str, str], held: Mapping[str, Sequence[Held]]) -> list[Comparison]:
    found = []
    for one in suite.comparison:
        for arm in one.arms or [name for name in suite.arms if name != one.against]:
            for name in one.measures:
                mine, theirs = ([h.outcome for h in held[which]] for which in (arm, one.against))
                interval = measure_named(name).compared(mine, theirs, seed=SEED)
                found.append(Comparison(group=group, arm=arm, against=one.against, measure=name, **figures(interval)))
    return found
