"""Which remarks of several reviewers say the same: a merge by place and words, without a model.

Theory of operation:

1. *Words.* A text becomes words and the code names in it. `updateHostName` and `update_host_name` count as a name each,
   and as the words update, host, name, so that a reviewer who quotes a name meets one who describes it. Words lose
   their ending, function words are dropped.
2. *Likeness* of two remarks is the cosine of their word vectors, each word weighted by (1 + log n)·log(1 + N/d) for n
   occurrences in the remark, in d of the N remarks (G. Salton, C. Buckley, "Term-weighting approaches in automatic text
   retrieval", Information Processing & Management 24, 1988). N and d are of the remarks at hand: what everybody
   mentions, because the change is about it, tells nothing apart.
3. *Place* only forbids: remarks on different files, or on lines more than `LINES_APART_MAX` apart, are never one.
   A remark without a place can be about any.
4. *Groups* are formed by average linkage: the two groups whose remarks are alike most, on average over all pairs, are
   joined, until no average reaches `alike`. Two remarks of one reviewer that differ count as wholly unlike (0): a
   reviewer who says two things mostly means two. It is a vote against, not a veto (cannot-link): reviewers do repeat
   themselves, and a veto then tears the group of all who agree in two.
5. The *spokesman* of a group is its most central remark: the one most alike the others'. At most two remarks of further
   reviewers are quoted beside it, chosen one at a time so that what is quoted covers the group best: greatest sum, over
   its members, of the likeness to the nearest remark quoted (facility location, chosen greedily; H. Lin, J. Bilmes, "A
   class of submodular functions for document summarization", ACL 2011). Of equals (two remarks that cover each other
   and nothing else always are) the more central one is quoted.

What only a reader can decide can be put to one: `pairs_in_doubt` names the pairs nearest to the threshold, and `judged`
takes the verdicts, which stand for the likeness of those pairs (1 or 0).

The result depends on what is said and where, not on the order of remarks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Final

from ..errors import ConfigError
from .linkage import Pair, average_linkage

__all__ = [
    "ALIKE_MIN",
    "LINES_APART_MAX",
    "QUOTED_MAX",
    "REMARKS_MAX",
    "TEXT_CHARS_MAX",
    "WORDS_MAX",
    "Corpus",
    "Group",
    "Remark",
    "likeness",
    "likeness_within",
    "pairs_in_doubt",
    "same_findings",
    "words",
    "worth_quoting",
]

ALIKE_MIN: Final = 0.18
"""The mean likeness from which two groups are one."""

LINES_APART_MAX: Final = 10
QUOTED_MAX: Final = 3
"""How many remarks of a group are quoted, the spokesman among them."""

REMARKS_MAX: Final = 500
TEXT_CHARS_MAX: Final = 20_000
WORDS_MAX: Final = 200
"""How many different words of a remark count, the first ones: time grows by the words that all remarks share."""


_TOKEN = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)?")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\dA-Za-z_]+")
_STEM_MIN: Final = 4
_ENDINGS_TEXT: Final = "ingly edly ations ation ities ments ment ness ions ion ings ing ies ers ed es er ly s e"
_ENDINGS: Final = tuple(_ENDINGS_TEXT.split())  # the first that fits is cut off
_LINKING: Final = (
    "a an and are as at be been being but by can could did do does for from had has have if in into is it its"
)
_POINTING: Final = (
    "may might more most must no nor not of on or other our out over own same should so some such than that"
)
_THE_REST: Final = (
    "the their them then there these they this those to too under until up use used uses using very via was were what "
    "when where which while who will with would"
)
_COMMON: Final = frozenset(f"{_LINKING} {_POINTING} {_THE_REST}".split())


@dataclass(frozen=True, slots=True)
class Remark:
    """What one reviewer says about a change.

    Attributes:
        by: the reviewer.
        file: where it is; empty where that is not known. lines: first and last line there, None where not known.
    """

    by: str
    text: str
    file: str = ""
    lines: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.lines is not None and not self.lines[0] <= self.lines[1]:
            raise ConfigError(f"a remark of {self.by} is on lines {self.lines}; give the first one first")
        if len(self.text) > TEXT_CHARS_MAX:
            raise ConfigError(
                f"a remark of {self.by} exceeded the limit of {TEXT_CHARS_MAX} characters "
                f"(characters={len(self.text)}); shorten it"
            )


@dataclass(frozen=True, slots=True)
class Group:
    """Remarks that say the same, as places in the list that was given.

    Attributes:
        members: ascending. told: the spokesman among them. cohesion: mean likeness of its pairs of different
            reviewers; 1 where there is none. also: what is worth quoting beside the spokesman, the most telling first;
            at most `QUOTED_MAX` − 1, each of another reviewer, none in the words of another.
    """

    members: tuple[int, ...]
    told: int
    cohesion: float
    also: tuple[int, ...] = ()

    @property
    def quoted(self) -> tuple[int, ...]:
        """The spokesman and what is quoted beside it."""
        return self.told, *self.also


@dataclass(frozen=True, slots=True)
class Corpus:
    """What tells how common a word is: how many texts there are, and in how many of them each word occurs."""

    texts: int
    among: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Corpus:
        """Count texts; of each, the first `WORDS_MAX` different words."""
        among: Counter[str] = Counter()
        count = 0
        for text in texts:
            among.update(_counted(text).keys())
            count += 1
        return cls(count, among)


def words(text: str) -> Iterator[str]:
    """The words that a remark is compared by, repeated as they occur; names in code count whole and in parts."""
    for match in _TOKEN.finditer(text):
        name = match.group().strip("_")
        parts = [part for part in map(str.lower, _PART.findall(name)) if len(part) > 1 and part not in _COMMON]
        yield from map(_stem, parts)
        if len(parts) > 1:
            yield name.lower()


def likeness(remarks: Sequence[Remark], corpus: Corpus | None = None) -> dict[Pair, float]:
    """The cosine of each two remarks' words, for pairs (i, j) with i < j that share one; 0 < cosine ≤ 1.

    Of each remark, the first `WORDS_MAX` different words count.

    Args:
        corpus: what tells how common a word is, where that is more than these remarks; it holds them.

    Raises:
        ConfigError: more than `REMARKS_MAX` remarks.
    """
    if len(remarks) > REMARKS_MAX:
        raise ConfigError(
            f"remarks exceeded the limit of {REMARKS_MAX} that are compared with each other "
            f"(remarks={len(remarks)}); merge them file by file"
        )
    close: dict[Pair, float] = {}
    for entries in _by_word([remark.text for remark in remarks], corpus):
        for (one, mine), (two, theirs) in combinations(entries, 2):
            close[one, two] = close.get((one, two), 0.0) + mine * theirs
    return {pair: min(1.0, value) for pair, value in close.items()}


def likeness_within(texts: Sequence[str], places: Sequence[int], reach: int, corpus: Corpus) -> dict[Pair, float]:
    """`likeness` of texts that are at most `reach` apart; time grows with how many of these share a word.

    Args:
        places: where each text is, ascending. corpus: what tells how common a word is; it holds the texts.
    """
    close: dict[Pair, float] = {}
    for entries in _by_word(texts, corpus):
        for number, (one, mine) in enumerate(entries):
            last = places[one] + reach
            for two, theirs in islice(entries, number + 1, None):
                if places[two] > last:
                    break
                close[one, two] = close.get((one, two), 0.0) + mine * theirs
    return {pair: min(1.0, value) for pair, value in close.items()}


def _by_word(texts: Sequence[str], corpus: Corpus | None) -> Iterator[list[tuple[int, float]]]:
    """For each word, which texts hold it and with what weight, the weights of a text being of norm 1.

    In the order of words, whatever the order of texts: sums over words are rounded.
    """
    counts = [_counted(text) for text in texts]
    among = Counter(word for count in counts for word in count) if corpus is None else corpus.among
    total = len(texts) if corpus is None else corpus.texts
    by_word: dict[str, list[tuple[int, float]]] = {}
    for place, count in enumerate(counts):
        vector = {word: (1 + math.log(n)) * math.log1p(total / among[word]) for word, n in count.items()}
        norm = math.sqrt(math.fsum(weight * weight for weight in vector.values()))
        for word, weight in vector.items():
            by_word.setdefault(word, []).append((place, weight / norm))
    for word in sorted(by_word):
        yield by_word[word]


def same_findings(
    remarks: Sequence[Remark], *, alike: float = ALIKE_MIN, judged: Mapping[Pair, bool] | None = None
) -> tuple[Group, ...]:
    """Group remarks on one change by what they say; every remark is in one group, groups by their first remark.

    Args:
        alike: mean likeness from which groups are joined, above 0, at most 1.
        judged: (i, j), i < j, to whether a reader found them to say the same.

    Raises:
        ConfigError: `alike` out of range, too many remarks, a judged pair that is none.
    """
    if not 0 < alike <= 1:
        raise ConfigError(f"`alike` is above 0 and at most 1 (alike={alike}); fix it")
    close = likeness(remarks)
    rank = _ranks(remarks)
    order = sorted(rank, key=rank.__getitem__)
    pull, apart = _pull(remarks, close, judged or {})
    joined = average_linkage(
        len(remarks),
        {_pair(rank[i], rank[j]): value for (i, j), value in pull.items()},
        {_pair(rank[i], rank[j]) for i, j in apart},
        alike,
    )
    groups = [_group(remarks, [order[number] for number in members], close, rank) for members in joined]
    return tuple(sorted(groups, key=lambda group: group.members))


def worth_quoting(remarks: Sequence[Remark], told: int) -> tuple[int, ...]:
    """What to quote beside the remark `told` of a group that is given, the most telling first (5 above).

    At most `QUOTED_MAX` − 1, each of another reviewer, none in the words of another. Raises ConfigError as `likeness`.
    """
    group = _group(remarks, range(len(remarks)), likeness(remarks), _ranks(remarks), told)
    return group.also


def pairs_in_doubt(remarks: Sequence[Remark], *, alike: float = ALIKE_MIN, at_most: int = 50) -> tuple[Pair, ...]:
    """The pairs whose likeness tells least: those nearest to the threshold, by log ratio, of different reviewers.

    Pairs that their places keep apart, and pairs below half or above twice the threshold, are in no doubt.
    """
    doubt = sorted(
        (abs(math.log(value / alike)), _canonical(remarks[i]), _canonical(remarks[j]), (i, j))
        for (i, j), value in likeness(remarks).items()
        if remarks[i].by != remarks[j].by and alike / 2 <= value <= 2 * alike and not _apart(remarks[i], remarks[j])
    )
    return tuple(pair for *_, pair in doubt[:at_most])


def _ranks(remarks: Sequence[Remark]) -> dict[int, int]:
    """Remarks by place, with their number in an order that does not depend on how they came."""
    order = sorted(range(len(remarks)), key=lambda place: _canonical(remarks[place]))
    return {place: number for number, place in enumerate(order)}


def _counted(text: str) -> Counter[str]:
    """How often each of the first `WORDS_MAX` different words occurs in the whole text."""
    found = Counter(words(text))  # in order of first occurrence
    return Counter(dict(islice(found.items(), WORDS_MAX)))


def _stem(word: str) -> str:
    ending = next((end for end in _ENDINGS if word.endswith(end) and len(word) - len(end) >= _STEM_MIN), "")
    return word.removesuffix(ending)


def _canonical(remark: Remark) -> tuple[str, str, tuple[int, int], str]:
    return remark.text, remark.file, remark.lines or (0, 0), remark.by


def _pair(i: int, j: int) -> Pair:
    return (i, j) if i < j else (j, i)


def _apart(one: Remark, two: Remark) -> bool:
    """Whether their places forbid that they are one."""
    if not one.file or not two.file:
        return False
    if one.file != two.file:
        return True
    if one.lines is None or two.lines is None:
        return False
    return max(one.lines[0], two.lines[0]) - min(one.lines[1], two.lines[1]) > LINES_APART_MAX


def _pull(
    remarks: Sequence[Remark], close: Mapping[Pair, float], judged: Mapping[Pair, bool]
) -> tuple[dict[Pair, float], list[Pair]]:
    """What speaks for each pair, where anything does, and the pairs that are kept apart."""
    pull = {}
    for (i, j), value in close.items():
        if remarks[i].by != remarks[j].by:
            pull[i, j] = value
        elif remarks[i].text == remarks[j].text:
            pull[i, j] = 1.0
    for (i, j), same in judged.items():
        if not 0 <= i < j < len(remarks):
            raise ConfigError(f"judged pair ({i}, {j}) is none of {len(remarks)} remarks; pairs are (i, j) with i < j")
        pull[i, j] = float(same)
    placed = [place for place, remark in enumerate(remarks) if remark.file]
    return pull, [(i, j) for i, j in combinations(placed, 2) if _apart(remarks[i], remarks[j])]


def _group(
    remarks: Sequence[Remark],
    members: Sequence[int],
    close: Mapping[Pair, float],
    rank: Mapping[int, int],
    told: int | None = None,
) -> Group:
    pairs = [pair for pair in combinations(sorted(members), 2) if remarks[pair[0]].by != remarks[pair[1]].by]
    central: dict[int, list[float]] = {place: [] for place in members}
    for i, j in pairs:
        central[i].append(close.get((i, j), 0.0))
        central[j].append(close.get((i, j), 0.0))
    order = sorted(members, key=lambda place: (place != told, -math.fsum(central[place]), rank[place]))
    shares = [close.get(pair, 0.0) for pair in pairs]
    cohesion = math.fsum(shares) / len(shares) if shares else 1.0
    return Group(tuple(sorted(members)), order[0], cohesion, _also(remarks, order, close))


def _also(remarks: Sequence[Remark], order: Sequence[int], close: Mapping[Pair, float]) -> tuple[int, ...]:
    """What to quote beside the first of a group's members, which are in order of how central they are."""
    quoted = [order[0]]
    near = {place: _alike(place, order[0], close) for place in order}
    while len(quoted) < QUOTED_MAX:
        heard, read = {remarks[place].by for place in quoted}, {remarks[place].text for place in quoted}
        fresh = [place for place in order if remarks[place].by not in heard and remarks[place].text not in read]
        if not fresh:
            break
        best = max(fresh, key=lambda one: math.fsum(max(near[other], _alike(other, one, close)) for other in order))
        near = {place: max(near[place], _alike(place, best, close)) for place in order}
        quoted.append(best)
    return tuple(quoted[1:])


def _alike(one: int, two: int, close: Mapping[Pair, float]) -> float:
    return 1.0 if one == two else close.get(_pair(one, two), 0.0)
