"""How near a fitted panel comes to debates that it was not fitted to.

Measures, per round t, of honest seats where seats are counted:

- `accuracy`: the plurality of round t is right, ties split, of all debates; a debate that ended earlier counts with its
  last round;
- `votes_right`: right replies of the replies given in round t;
- `unanimity`: all replies of round t (the last one held where it ended earlier) are readable and the same, of all
  debates;
- `right_to_wrong`: of seats right in round t and asked in t + 1, those that are not right then;
- `wrong_to_right`: of seats not right in round t and asked in t + 1, those that are right then.

A recorded figure comes with its standard error, clustered by question: Σ_q (part_q − value · whole_q)² / (Σ whole)²,
times n / (n − 1). What a figure of one half of the questions says about the other half is off by √2 times that alone.

What is fitted to one half is compared with the other half, and the worst of both counts. The halves are never pooled
for that: one half's questions are as much too hard as the other's are too easy, so that both errors cancel, and a
"simulator" that copies the figures it was given would be all but perfect. `Crossed` holds that null beside the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from ...core.policies import leaders
from ...errors import ConfigError
from .fitting import Scored, fit
from .model import AgentModel, PanelModel
from .simulate import simulate

__all__ = [
    "CALIBRATED",
    "SIMULATED_DEBATES",
    "Crossed",
    "Deviation",
    "calibration_report",
    "crossed_report",
    "halves",
    "measures",
    "worst",
]

CALIBRATED: Final = ("accuracy", "unanimity", "right_to_wrong", "wrong_to_right")
"""What `worst` goes by."""

SIMULATED_DEBATES: Final = 16_000
"""How many debates a report simulates of each half; the standard error of a share of debates is .4 points at most."""

_Measured = dict[tuple[str, int], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Deviation:
    """One figure, recorded and simulated.

    Attributes:
        round: 1-based; for flips the round before.
        recorded, simulated: shares, 0 to 1; nan where there is no case.
        error: the standard error of `recorded`.
    """

    measure: str
    round: int
    recorded: float
    simulated: float
    error: float

    @property
    def points(self) -> float:
        """Simulated − recorded, in percentage points."""
        return 100 * (self.simulated - self.recorded)


@dataclass(frozen=True, slots=True)
class Crossed:
    """Each half of the questions compared with what the other half says of it.

    Attributes:
        simulated: by half: debates of a panel that was fitted to the other half, against this half.
        copied: by half: the other half's own figures, against this half. The null: what no model at all achieves.
        pooled: both halves' simulations together against everything. Errors of the halves cancel in it: it says what
            the model leaves out, and nothing about questions that it was not fitted to.
    """

    simulated: tuple[Sequence[Deviation], Sequence[Deviation]]
    copied: tuple[Sequence[Deviation], Sequence[Deviation]]
    pooled: Sequence[Deviation]


def calibration_report(
    train: Sequence[Scored], test: Sequence[Scored], seed: int, *, debates: int = SIMULATED_DEBATES
) -> list[Deviation]:
    """Fit to `train`, simulate as many seats, options and misleading seats as `test` has, and compare with `test`."""
    if not test:
        raise ConfigError("there is nothing to compare a simulation with (test=0 debates); give some")
    return _compared(test, _alike(fit(train), test, seed, debates))


def crossed_report(recorded: Sequence[Scored], seed: int, *, debates: int = SIMULATED_DEBATES) -> Crossed:
    """Two-fold by question: each half is simulated by a panel that was fitted to the other, and compared by itself.

    Args:
        debates: simulated of each half, in proportion to its size.

    Raises:
        ConfigError: a half has no question; what `fit` raises.
    """
    first, second = halves(recorded)
    if not first or not second:
        raise ConfigError(f"a half of the debates has no question ({len(recorded)} debates); give more")
    made = [
        _alike(fit(train), test, seed, round(2 * debates * len(test) / len(recorded)))
        for train, test in ((second, first), (first, second))
    ]
    return Crossed(
        simulated=(_compared(first, made[0]), _compared(second, made[1])),
        copied=(_compared(first, second), _compared(second, first)),
        pooled=_compared(recorded, [*made[0], *made[1]]),
    )


def worst(deviations: Iterable[Deviation]) -> Deviation | None:
    """The greatest deviation of a `CALIBRATED` measure, whatever its sign; None where no figure has a case on both
    sides."""
    known = [one for one in deviations if one.measure in CALIBRATED and not math.isnan(one.points)]
    return max(known, key=lambda one: abs(one.points), default=None)


def halves(recorded: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Two halves by question: all debates on one question are in the same.

    Questions with as many debates are dealt in turn, in the order of a digest of their names, so that the halves are
    alike in size and otherwise left to chance.
    """
    debates = Counter(one.question for one in recorded)
    digests = {name: sha256(name.encode("utf-8", "surrogatepass")).digest() for name in debates}
    dealt = sorted(debates, key=lambda name: (debates[name], digests[name]))
    second = set(dealt[1::2])
    return (
        [one for one in recorded if one.question not in second],
        [one for one in recorded if one.question in second],
    )


def measures(debates: Sequence[Scored]) -> _Measured:
    """(measure, round) to (value, standard error), up to the last round that any debate has."""
    cells: dict[tuple[str, int], dict[str, list[float]]] = {}
    rounds = max((len(one.debated.rounds) for one in debates), default=0)
    for one in debates:
        for measure, number, part, whole in _counts(one, rounds):
            cell = cells.setdefault((measure, number), {}).setdefault(one.question, [0.0, 0.0])
            cell[0] += part
            cell[1] += whole
    return {name: _ratio(list(cell.values())) for name, cell in sorted(cells.items())}


def _compared(recorded: Sequence[Scored], simulated: Sequence[Scored]) -> list[Deviation]:
    real, made = measures(recorded), measures(simulated)
    nothing = (math.nan, math.nan)
    return [Deviation(*name, value, made.get(name, nothing)[0], error) for name, (value, error) in real.items()]


def _alike(panel: PanelModel, test: Sequence[Scored], seed: int, count: int) -> list[Scored]:
    """Debates of the panel, with seats, options and misleading seats in the proportions of `test`."""
    strata = Counter((len(one.debated.seats), one.debated.options, len(one.adversaries)) for one in test)
    adversary = next((agent for agent in panel.agents if agent.misleads), AgentModel(role="adversary"))
    honest = next((agent for agent in panel.agents if not agent.misleads), AgentModel())
    made: list[Scored] = []
    for (seats, options, misleading), cases in sorted(strata.items()):
        cast = (*[honest] * (seats - misleading), *[adversary] * misleading)
        name = f"{seats}-{options}-{misleading}"
        names = [f"{name}/q{question}" for question in range(max(1, round(count * cases / len(test))))]
        made += simulate(replace(panel, agents=cast, options=options), names, seed=seed, run=name)
    return made


def _counts(one: Scored, rounds: int) -> Iterator[tuple[str, int, float, float]]:
    """(measure, round, part, whole) of one debate."""
    held = one.debated.rounds
    for number in range(1, rounds + 1):
        last = min(number, len(held))
        leading = leaders(one.debated.votes(last))
        said = [reply.answer for reply in held[last - 1]]
        yield "accuracy", number, (one.gold in leading) / max(1, len(leading)), 1
        yield "unanimity", number, len(set(said)) == 1 and said[0] is not None, 1
        if number <= len(held):
            honest = [reply.answer for reply in held[number - 1] if reply.seat not in one.adversaries]
            yield "votes_right", number, honest.count(one.gold), len(honest)
        if number < len(held):
            then = {reply.seat: reply.answer == one.gold for reply in held[number]}
            for reply in held[number - 1]:
                if reply.seat in then and reply.seat not in one.adversaries:
                    right, now = reply.answer == one.gold, then[reply.seat]
                    yield "right_to_wrong", number, right and not now, right
                    yield "wrong_to_right", number, now and not right, not right


def _ratio(cells: Sequence[Sequence[float]]) -> tuple[float, float]:
    parts, whole = math.fsum(part for part, _ in cells), math.fsum(whole for _, whole in cells)
    if not whole:
        return math.nan, math.nan
    value, count = parts / whole, len(cells)
    spread = math.fsum((part - value * each) ** 2 for part, each in cells)
    return value, math.sqrt(spread * count / max(1, count - 1)) / whole
