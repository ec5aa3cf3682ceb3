"""The rule `same`: claims of a review become findings by what they say, however they put it (`core.same`).

Theory of operation:

1. Claims in the same words on the same line, with the same rule code or none, are one *said thing*, whoever and however
   many say it. That holds everywhere; all that follows is about said things.
2. Two are compared if they stand in one file at most `LINES_APART_MAX` lines apart. Of ten lines (1 to 9, 10 to 19, …)
   `NEAR_MAX` are, the seats taking turns (each seat's first, then each one's second, …), so that no seat crowds out the
   others, and what is said elsewhere in the file crowds out nobody; those beyond stay findings of their own. So each is
   compared with fewer than 3 · `NEAR_MAX` others, and time grows with the number of claims.
3. What *speaks for* two said by different seats is the likeness of their words (`core.same.likeness`, how common a
   word is learned on all claims of the review), halved once over `LINES_APART_MAX` lines: of two defects that read
   alike, each joins its own place. Two with the same rule code at the same place are one, whatever their words.
4. Some are *never one*: those of different files, of places further apart than they may be, with two different rule
   codes, and two of one seat unless they are the same words on the same line. That is a veto here, where `core.same`
   counts a vote against: a seat that means two defects must find both voted on.
5. Groups are formed by average linkage down to `core.same.ALIKE_MIN`, what several seats say counting as often.

How far apart: a line that was checked is where the quoted code stands, so two claims on one line are about one line.
Yet one defect has several lines to quote (a lock and the sleep within, an open and the missing close), so place forbids
only beyond a block's length: the same `LINES_APART_MAX` = 10 as for remarks whose lines nobody checked, and no finding
is wider. A claim whose quote is not found, or that has none, gets no more room for being vague. A rule knows its line:
of two claims one of which has a code, at most two lines.

That two claims stand on one line is *not* counted for them. Reviewers who quote one line name the same things in it,
so even different defects are alike there; place says least about words exactly where it agrees.

What is *in doubt* (`Compared.doubtful`) can be put to a reader, one of the seats: pairs near the threshold, then pairs
at one place whose words have little in common. Nobody judges his own claims. What decides, the first before the next:

1. the vetoes of 4;
2. that the reader calls two different: a veto for these two, so that no third claim brings them together;
3. that the reader calls two the same: they are one, unless that would bring together what 1 or 2 keeps apart. Of
   verdicts that cannot all hold, those hold first whose words are most alike. `Compared.unheld` tells the others;
4. the words. A verdict "same" takes nothing out of a group that the words make, unless 1 or 2 does: what it joins to
   the group does not count in the group's averages.

A rule's results are part of every ledger that was written by it, and a replay computes them again: a change to them, in
`core.same` and `core.linkage` too, is another rule with another name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .findings import Finding, Raised, claim_order, findings_of
from .linkage import Linkage, Pair
from .same import ALIKE_MIN, LINES_APART_MAX, Corpus, likeness_within

__all__ = ["DOUBTFUL_MAX", "NEAR_MAX", "Compared", "compare"]

DOUBTFUL_MAX: Final = 30
"""How many pairs a reader is asked about."""

NEAR_MAX: Final = 200
"""How many said things of ten lines are compared with each other, and with those of the ten lines before and after."""

_PLACE_LINES: Final = 2
_DIGITS: Final = 9  # likeness is rounded, so that ties are ties whatever the platform's logarithm gives at the end


@dataclass(frozen=True, slots=True)
class Compared:
    """Claims of a review, and what speaks for any two of them.

    Attributes:
        claims: by what they say, each with all claims that say it there, in order of file and line.
        near: places in `claims` that are compared, ascending.
        pull: what speaks for a pair, above 0, at most 1.
        apart: pairs at most `LINES_APART_MAX` lines apart that are never one finding.
    """

    claims: tuple[tuple[Raised, ...], ...]
    near: tuple[int, ...]
    pull: Mapping[Pair, float]
    apart: frozenset[Pair]

    @property
    def beyond(self) -> int:
        """How many claims are compared with none but their like, because too much is said on their ten lines."""
        return sum(map(len, self.claims)) - sum(len(self.claims[place]) for place in self.near)

    def doubtful(self, reader: str) -> tuple[Pair, ...]:
        """At most `DOUBTFUL_MAX` pairs that a reader should decide, none with a claim of its own.

        First those between half and twice the threshold, the nearest to it (by log ratio) first; then those below at
        the same place, of least distance and then greatest likeness first.
        """
        doubt = []
        seats = _seats(self.claims)
        heads = [said[0] for said in self.claims]
        for pair in _pairs(heads, self.near):
            i, j = pair
            if pair in self.apart or seats[i] & seats[j] or reader in seats[i] or reader in seats[j]:
                continue
            value, lines = self.pull.get(pair, 0.0), heads[j].line - heads[i].line
            if ALIKE_MIN / 2 <= value <= 2 * ALIKE_MIN:
                doubt.append((0, round(abs(math.log(value / ALIKE_MIN)), _DIGITS), 0.0, pair))
            elif value < ALIKE_MIN / 2 and lines <= _PLACE_LINES:
                doubt.append((1, float(lines), -value, pair))
        return tuple(pair for *_, pair in sorted(doubt)[:DOUBTFUL_MAX])

    def findings(self, judged: Mapping[Pair, bool] | None = None) -> tuple[Finding, ...]:
        """The claims merged. `judged`: by pair, whether a reader found the two to be one."""
        linkage, _ = self._bound(judged or {})
        groups = linkage.groups(self.pull, ALIKE_MIN)
        return findings_of([claim for place in group for claim in self.claims[place]] for group in groups)

    def unheld(self, judged: Mapping[Pair, bool]) -> Mapping[Pair, str]:
        """The pairs that a reader found to be one and that are not, each with what forbids it."""
        return self._bound(judged)[1] if any(judged.values()) else {}

    def _bound(self, judged: Mapping[Pair, bool]) -> tuple[Linkage, dict[Pair, str]]:
        different = {pair for pair, same in judged.items() if not same}
        linkage = Linkage(
            len(self.claims),
            self.apart | different,
            sizes=[len(seats) for seats in _seats(self.claims)],
            places=_places([said[0] for said in self.claims]),
            reach=LINES_APART_MAX,
        )
        same = sorted((-self.pull.get(pair, 0.0), pair) for pair, one in judged.items() if one)
        unheld = {
            (i, j): self._why(linkage.with_(i), linkage.with_(j), different)
            for _, (i, j) in same
            if not linkage.bind(i, j)
        }
        return linkage, unheld

    def _why(self, one: Sequence[int], two: Sequence[int], different: set[Pair]) -> str:
        """What keeps two groups apart."""
        for pair in sorted((min(i, j), max(i, j)) for i in one for j in two):
            left, right = (self.claims[place] for place in pair)
            if pair in different:
                return "a pair between them is called different"
            if pair in self.apart:
                shared = sorted({claim.agent for claim in left} & {claim.agent for claim in right})
                if left[0].code and right[0].code and left[0].code != right[0].code:
                    return "two rule codes"
                return f"two claims of {shared[0]}" if shared else "too many lines apart for a rule code"
        return f"more than {LINES_APART_MAX} lines apart"


def compare(raised: Iterable[Raised]) -> Compared:
    """Compare the claims of a review. The result depends on the claims alone, not on their order."""
    claims = _said(raised)
    seats = _seats(claims)
    heads = [said[0] for said in claims]
    corpus = Corpus.of(head.text for head, by in zip(heads, seats, strict=True) for _ in by)
    near = _by_turns(heads, seats)
    places = _places(heads)
    close = likeness_within([heads[i].text for i in near], [places[i] for i in near], LINES_APART_MAX, corpus)
    alike = {(near[i], near[j]): value for (i, j), value in close.items()}
    pull: dict[Pair, float] = {}
    apart: set[Pair] = set()
    for i, j in _pairs(heads, near):
        own = bool(seats[i] & seats[j])
        if _never_one(heads[i], heads[j], own):
            apart.add((i, j))
        elif value := _speaks_for(heads[i], heads[j], own, alike.get((i, j), 0.0)):
            pull[i, j] = value
    return Compared(claims, near, pull, frozenset(apart))


def _said(raised: Iterable[Raised]) -> tuple[tuple[Raised, ...], ...]:
    said: dict[tuple[str, int, str, str], list[Raised]] = {}
    for claim in sorted(raised, key=claim_order):
        said.setdefault((claim.file, claim.line, claim.code, claim.text), []).append(claim)
    return tuple(sorted(map(tuple, said.values()), key=lambda same: claim_order(same[0])))


def _seats(claims: Sequence[Sequence[Raised]]) -> list[frozenset[str]]:
    return [frozenset(claim.agent for claim in said) for said in claims]


def _places(heads: Sequence[Raised]) -> list[int]:
    """Lines on one scale for all files, which are out of each other's reach. Heads are in order of file and line."""
    places: list[int] = []
    for number, head in enumerate(heads):
        before = heads[number - 1] if number else head
        step = head.line - before.line if head.file == before.file else LINES_APART_MAX + 1
        places.append(step + (places[-1] if places else 0))
    return places


def _by_turns(heads: Sequence[Raised], seats: Sequence[frozenset[str]]) -> tuple[int, ...]:
    """What is compared: of each ten lines at most `NEAR_MAX`, by turns of the seats."""
    turns: dict[tuple[str, int, str], int] = {}
    order: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for place, head in enumerate(heads):
        tens = head.file, head.line // LINES_APART_MAX
        for seat in seats[place]:
            turns[(*tens, seat)] = turns.get((*tens, seat), -1) + 1
        order.setdefault(tens, []).append((min(turns[(*tens, seat)] for seat in seats[place]), place))
    return tuple(sorted(place for group in order.values() for _, place in sorted(group)[:NEAR_MAX]))


def _pairs(heads: Sequence[Raised], near: Sequence[int]) -> Iterator[Pair]:
    """What is compared with what. Heads are in order of file and line."""
    for number, i in enumerate(near):
        for later in range(number + 1, len(near)):
            j = near[later]
            if heads[j].file != heads[i].file or heads[j].line - heads[i].line > LINES_APART_MAX:
                break
            yield i, j


def _never_one(one: Raised, two: Raised, own: bool) -> bool:
    if one.code and two.code and one.code != two.code:
        return True
    if own:
        return (one.line, one.text) != (two.line, two.text)
    return abs(one.line - two.line) > (_PLACE_LINES if one.code or two.code else LINES_APART_MAX)


def _speaks_for(one: Raised, two: Raised, own: bool, alike: float) -> float:
    if own or (one.code and one.code == two.code) or (one.line, one.text) == (two.line, two.text):
        return 1.0
    return round(alike * math.exp2(-abs(one.line - two.line) / LINES_APART_MAX), _DIGITS)
