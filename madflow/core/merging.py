"""The rule `same`: claims of a review become findings by what they say, however they put it (`core.same`).

Theory of operation:

1. What a seat says twice in the same words on the same line is one claim.
2. Claims on one file whose lines follow each other at most `LINES_APART_MAX` apart are a *run*; only claims of one run
   are compared. Of a long run `NEAR_MAX` are, the seats taking turns (each seat's first claim, then each one's second,
   …), so that no seat crowds out the others; those beyond stay findings of their own.
3. What *speaks for* two claims of different seats is the likeness of their words (`core.same.likeness`, how common a
   word is learned on all claims of the review), halved once over `LINES_APART_MAX` lines: of two defects that read
   alike, each joins its own place. Two claims with the same rule code at the same place are one, whatever their words.
4. Some claims are *never one*: those of different files, of places further apart than they may be, with two different
   rule codes, and two of one seat unless they are the same words on the same line. That is a veto here, where
   `core.same` counts a vote against: a seat that means two defects must find both voted on.
5. Groups are formed by average linkage down to `core.same.ALIKE_MIN`.

How far apart: a line that was checked is where the quoted code stands, so two claims on one line are about one line.
Yet one defect has several lines to quote (a lock and the sleep within, an open and the missing close), so place forbids
only beyond a block's length: the same `LINES_APART_MAX` = 10 as for remarks whose lines nobody checked. A claim whose
quote is not found, or that has none, gets no more room for being vague. A rule knows its line: of two claims one of
which has a code, at most two lines.

That two claims stand on one line is *not* counted for them. Reviewers who quote one line name the same things in it,
so even different defects are alike there; place says least about words exactly where it agrees.

What is *in doubt* (`Compared.doubtful`) can be put to a reader, one of the seats: pairs near the threshold, then pairs
at one place whose words have little in common. A verdict stands for what speaks for that pair (1 or 0); a veto holds
against it. Nobody judges his own claims.

A rule's results are part of every ledger that was written by it, and a replay computes them again: a change to them, in
`core.same` too, is another rule with another name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from .findings import Finding, Raised, claim_order, findings_of
from .same import ALIKE_MIN, LINES_APART_MAX, Corpus, Pair, Remark, average_linkage, likeness

__all__ = ["DOUBTFUL_MAX", "NEAR_MAX", "Compared", "compare"]

DOUBTFUL_MAX: Final = 30
"""How many pairs a reader is asked about."""

NEAR_MAX: Final = 200
"""How many claims of one run are compared with each other."""

_PLACE_LINES: Final = 2
_DIGITS: Final = 9  # likeness is rounded, so that ties are ties whatever the platform's logarithm gives at the end


@dataclass(frozen=True, slots=True)
class Compared:
    """Claims of a review, and what speaks for any two of them.

    Attributes:
        claims: in an order of their own; each as often as its seat said it.
        runs: places in `claims` that are compared with each other, ascending.
        pull: what speaks for a pair, above 0, at most 1.
        apart: pairs of one run that are never one finding.
    """

    claims: tuple[tuple[Raised, ...], ...]
    runs: tuple[tuple[int, ...], ...]
    pull: Mapping[Pair, float]
    apart: frozenset[Pair]

    @property
    def beyond(self) -> int:
        """How many claims are compared with none, because their run is too long."""
        return len(self.claims) - sum(map(len, self.runs))

    def doubtful(self, reader: str) -> tuple[Pair, ...]:
        """At most `DOUBTFUL_MAX` pairs that a reader should decide, none with a claim of its own.

        First those between half and twice the threshold, the nearest to it (by log ratio) first; then those below at
        the same place, of least distance and then greatest likeness first.
        """
        doubt = []
        for run in self.runs:
            for pair in combinations(run, 2):
                one, two = (self.claims[place][0] for place in pair)
                if pair in self.apart or one.agent == two.agent or reader in (one.agent, two.agent):
                    continue
                value, lines = self.pull.get(pair, 0.0), abs(one.line - two.line)
                if ALIKE_MIN / 2 <= value <= 2 * ALIKE_MIN:
                    doubt.append((0, round(abs(math.log(value / ALIKE_MIN)), _DIGITS), 0.0, pair))
                elif value < ALIKE_MIN / 2 and lines <= _PLACE_LINES:
                    doubt.append((1, float(lines), -value, pair))
        return tuple(pair for *_, pair in sorted(doubt)[:DOUBTFUL_MAX])

    def findings(self, judged: Mapping[Pair, bool] | None = None) -> tuple[Finding, ...]:
        """The claims merged. `judged`: by pair, whether a reader found the two to be one."""
        pull = {**self.pull, **{pair: float(same) for pair, same in (judged or {}).items()}}
        clusters: list[list[int]] = []
        for run in self.runs:
            local = {place: number for number, place in enumerate(run)}
            pairs = {(local[i], local[j]): pull[i, j] for i, j in combinations(run, 2) if pull.get((i, j))}
            vetoes = [(local[i], local[j]) for i, j in combinations(run, 2) if (i, j) in self.apart]
            groups = average_linkage(len(run), pairs, vetoes, ALIKE_MIN)
            clusters += [[run[number] for number in group] for group in groups]
        alone = set(range(len(self.claims))).difference(*self.runs)
        clusters += [[place] for place in sorted(alone)]
        return findings_of([claim for place in group for claim in self.claims[place]] for group in clusters)


def compare(raised: Iterable[Raised]) -> Compared:
    """Compare the claims of a review. The result depends on the claims alone, not on their order.

    A claim is compared with fewer than `NEAR_MAX` others, so time grows with the number of claims, which replies bound.
    """
    claims = _distinct(raised)
    heads = [said[0] for said in claims]
    corpus = Corpus.of(head.text for head in heads)
    runs = tuple(_by_turns(heads, run) for run in _runs(heads))
    pull: dict[Pair, float] = {}
    apart: set[Pair] = set()
    for run in runs:
        near = [heads[place] for place in run]
        close = likeness([Remark(head.agent, head.text) for head in near], corpus)
        for (i, one), (j, two) in combinations(enumerate(near), 2):
            pair = run[i], run[j]
            if _never_one(one, two):
                apart.add(pair)
            elif value := _speaks_for(one, two, close.get((i, j), 0.0)):
                pull[pair] = value
    return Compared(claims, runs, pull, frozenset(apart))


def _distinct(raised: Iterable[Raised]) -> tuple[tuple[Raised, ...], ...]:
    said: dict[tuple[str, int, str, str, str], list[Raised]] = {}
    for claim in sorted(raised, key=claim_order):
        said.setdefault((claim.file, claim.line, claim.agent, claim.code, claim.text), []).append(claim)
    return tuple(sorted(map(tuple, said.values()), key=lambda same: claim_order(same[0])))


def _runs(heads: Sequence[Raised]) -> Iterator[list[int]]:
    """Claims are in order of file and line."""
    run: list[int] = []
    for place, head in enumerate(heads):
        if run and (head.file != heads[run[-1]].file or head.line - heads[run[-1]].line > LINES_APART_MAX):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _by_turns(heads: Sequence[Raised], run: Sequence[int]) -> tuple[int, ...]:
    if len(run) <= NEAR_MAX:
        return tuple(run)
    turns: dict[str, int] = {}
    order = []
    for place in run:
        turn = turns[heads[place].agent] = turns.get(heads[place].agent, -1) + 1
        order.append((turn, place))
    return tuple(sorted(place for _, place in sorted(order)[:NEAR_MAX]))


def _never_one(one: Raised, two: Raised) -> bool:
    if one.code and two.code and one.code != two.code:
        return True
    if one.agent == two.agent:
        return (one.line, one.text) != (two.line, two.text)
    return abs(one.line - two.line) > (_PLACE_LINES if one.code or two.code else LINES_APART_MAX)


def _speaks_for(one: Raised, two: Raised, alike: float) -> float:
    if one.agent == two.agent or (one.code and one.code == two.code):
        return 1.0
    return round(alike * math.exp2(-abs(one.line - two.line) / LINES_APART_MAX), _DIGITS)
