"""The merge of remarks: what counts as the same, what place forbids, and that order does not matter."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.same import (
    LINES_APART_MAX,
    QUOTED_MAX,
    REMARKS_MAX,
    WORDS_MAX,
    Group,
    Remark,
    likeness,
    pairs_in_doubt,
    same_findings,
    words,
)
from madflow.errors import ConfigError

NULL_HOST = (
    Remark("a", "`normalizeHost` calls strip on host although host may be null, so saving crashes"),
    Remark("b", "normalize_host does not guard against a null host: strip raises when saving"),
    Remark("c", "Crash on save: host can be null when normalizeHost strips it"),
)
RETRIES = (
    Remark("a", "The retry loop never waits between attempts, so a failing server is hammered"),
    Remark("b", "Retry attempts follow each other without waiting and hammer a failing server"),
)
LEAK = Remark("c", "The connection pool leaks: cursors are not closed on early return")
REVIEW = (*NULL_HOST, *RETRIES, LEAK)


def sets(groups: tuple[Group, ...]) -> set[frozenset[int]]:
    return {frozenset(group.members) for group in groups}


def test_remarks_that_say_the_same_in_other_words_are_one() -> None:
    """Catches names that are not split, endings that are not cut, a threshold of the wrong kind."""
    assert sets(same_findings(REVIEW)) == {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})}


def test_likeness_is_the_cosine_of_weighted_words() -> None:
    """Catches weights without idf or without log, and vectors that are not of length one."""
    remarks = [Remark("a", "lock lock queue"), Remark("b", "lock host"), Remark("c", "queue lock")]
    lock, queue, host = math.log1p(3 / 3), math.log1p(3 / 2), math.log1p(3 / 1)
    twice = 1 + math.log(2)
    first, second = math.hypot(twice * lock, queue), math.hypot(lock, host)
    close = likeness(remarks)
    assert close[0, 1] == pytest.approx(twice * lock * lock / (first * second))
    assert close[0, 2] == pytest.approx((twice * lock * lock + queue * queue) / (first * math.hypot(queue, lock)))
    assert likeness([Remark("a", "host"), Remark("b", "queue")]) == {}


def test_words_beyond_the_limit_do_not_count() -> None:
    """Catches remarks of thousands of shared words, whose comparison takes minutes."""
    many = " ".join(f"{chr(97 + n // 26)}{chr(97 + n % 26)}q" for n in range(WORDS_MAX))
    one, two = Remark("a", f"{many} lock"), Remark("b", f"{many} host queue")
    assert likeness([one, two])[0, 1] == pytest.approx(1)
    assert likeness([Remark("a", f"lock {many}"), two])[0, 1] < 0.999


def test_names_in_code_count_whole_and_in_parts() -> None:
    """Catches a splitter that loses acronyms or numbers, or yields one-letter scraps."""
    assert list(words("updateHTTPHost2(self.user_name)")) == [
        *("updat", "http", "host", "updatehttphost2"),
        "self",
        *("user", "name", "user_name"),
    ]
    assert list(words("it is of no use")) == []


def test_one_reviewers_remarks_pull_apart_but_do_not_forbid() -> None:
    """Catches a cannot-link: b and c say what both remarks of a say, so all four are one; two of a alone are two."""
    twice = Remark("a", "null host makes normalizeHost crash in strip when saving the host")
    assert len(same_findings((NULL_HOST[0], twice, LEAK))) == 3
    assert frozenset({0, 1, 2, 3}) in sets(same_findings((*NULL_HOST, twice, *RETRIES)))


def test_the_same_text_of_one_reviewer_is_one() -> None:
    """Catches a reviewer who is counted twice for posting a remark twice."""
    assert sets(same_findings((LEAK, LEAK, RETRIES[0]))) == {frozenset({0, 1}), frozenset({2})}


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (("x.py", (1, 4)), ("y.py", (1, 4)), False),
        (("x.py", (1, 4)), ("x.py", (4 + LINES_APART_MAX, 99)), True),
        (("x.py", (1, 4)), ("x.py", (5 + LINES_APART_MAX, 99)), False),
        (("x.py", (50, 60)), ("x.py", (1, 39)), False),
        (("x.py", (1, 4)), ("x.py", None), True),
        (("x.py", (1, 4)), ("", None), True),
    ],
)
def test_place_only_forbids(
    one: tuple[str, tuple[int, int] | None], two: tuple[str, tuple[int, int] | None], same: bool
) -> None:
    """Catches another file or far lines that are merged, an unknown place that is taken for another one."""
    text = NULL_HOST[0].text
    pair = (Remark("a", text, *one), Remark("b", text, *two))
    assert (len(same_findings(pair)) == 1) is same
    assert (len(same_findings(pair[::-1])) == 1) is same


def test_a_veto_holds_for_the_groups_of_the_two() -> None:
    """Catches a veto that is forgotten once one of the two has been joined with a third."""
    text = NULL_HOST[0].text
    remarks = (Remark("a", text, "x.py"), Remark("b", text), Remark("c", text, "y.py"), Remark("d", text))
    for group in same_findings(remarks):
        assert not {0, 2} <= set(group.members)


def test_the_spokesman_is_the_most_central_remark() -> None:
    """Catches a spokesman chosen by place in the list or by length."""
    middle = Remark("b", "null host crashes strip")
    remarks = (Remark("a", "null host crashes"), middle, Remark("c", "host crashes strip of the host"), LEAK)
    group = next(group for group in same_findings(remarks) if 1 in group.members)
    assert group.members == (0, 1, 2)
    assert group.told == 1
    assert 0 < group.cohesion < 1


def test_what_is_quoted_covers_the_group() -> None:
    """Catches quoting the most central remarks, which say one thing, or the oddest one first."""
    lock = ("the lock is held during sleep", "lock held while it sleeps", "sleeps, lock held")
    starve = ("requests starve in the queue, lock", "a starved queue of requests")
    remarks = [Remark(by, text) for by, text in zip("abcdef", (*lock, *starve, "spelling"), strict=True)]
    together = dict.fromkeys(combinations(range(6), 2), True)
    (group,) = same_findings(remarks, judged=together)
    assert group.told in (0, 1, 2)
    assert group.also in ((3, 5), (4, 5))
    assert group.quoted == (group.told, *group.also)
    everybody_else = [Remark("a", remark.text) if place in (3, 5) else remark for place, remark in enumerate(remarks)]
    (group,) = same_findings(everybody_else, judged=together)
    assert len({everybody_else[place].by for place in group.quoted}) == 3
    echo = [Remark(by, lock[0]) for by in "abc"]
    assert [group.also for group in same_findings(echo)] == [()]


def test_of_remarks_that_cover_each_other_the_more_central_is_quoted() -> None:
    """Catches ties that go by the alphabet: two that are alike cover a group equally, and one is nearer to the rest."""
    told = ("null host crashes strip", "null host crashes", "host crashes strip", "null crashes strip")
    pair = ("aaa queue starves requests", "queue starves requests host")
    remarks = [Remark(by, text) for by, text in zip("abcdef", (*told, *pair), strict=True)]
    (group,) = same_findings(remarks, judged=dict.fromkeys(combinations(range(6), 2), True))
    assert group.also[0] == 5


def test_a_readers_verdict_stands_for_likeness() -> None:
    """Catches verdicts that are ignored, or that only join and never part."""
    assert frozenset({3, 5}) in sets(same_findings(REVIEW, judged={(3, 5): True, (3, 4): False, (4, 5): False}))
    assert len(same_findings(RETRIES, judged={(0, 1): False})) == 2


def test_doubt_is_nearest_to_the_threshold_and_bounded() -> None:
    """Catches doubt about one reviewer's pairs, about pairs that place keeps apart, an unbounded list."""
    found = pairs_in_doubt(REVIEW, alike=0.3, at_most=50)
    close = likeness(REVIEW)
    gaps = [abs(math.log(close[pair] / 0.3)) for pair in found]
    assert gaps == sorted(gaps)
    assert found
    assert pairs_in_doubt((LEAK, LEAK), alike=1.0) == ()
    assert pairs_in_doubt(REVIEW, alike=0.3, at_most=1) == found[:1]
    assert pairs_in_doubt((Remark("a", "x y", "f"), Remark("b", "x y", "g")), alike=1.0) == ()


def test_misuse_is_refused_with_limit_and_value() -> None:
    """Catches limits that are not held, or errors without the number."""
    with pytest.raises(ConfigError, match="alike=0"):
        same_findings(REVIEW, alike=0)
    with pytest.raises(ConfigError, match=rf"{REMARKS_MAX} .*remarks={REMARKS_MAX + 1}"):
        same_findings([LEAK] * (REMARKS_MAX + 1))
    with pytest.raises(ConfigError, match=r"pair \(1, 0\)"):
        same_findings(REVIEW, judged={(1, 0): True})
    with pytest.raises(ConfigError, match="first one first"):
        Remark("a", "x", "f", (3, 2))
    assert same_findings(()) == ()


# ---- properties

VOCABULARY = ("null", "host", "crash", "retryLoop", "cursor", "leak", "lock", "order")
REMARKS = st.lists(
    st.builds(
        Remark,
        by=st.sampled_from("abcd"),
        text=st.lists(st.sampled_from(VOCABULARY), max_size=5).map(" ".join),
        file=st.sampled_from(["", "", "x.py", "y.py"]),
    ),
    max_size=9,
)


def by_hand(remarks: list[Remark], alike: float) -> set[frozenset[int]]:
    """Average linkage as it is defined: all means are computed anew before every join."""
    close = likeness(remarks)

    def pull(i: int, j: int) -> float:
        if remarks[i].by == remarks[j].by:
            return float(remarks[i].text == remarks[j].text and (min(i, j), max(i, j)) in close)
        return close.get((min(i, j), max(i, j)), 0.0)

    def veto(i: int, j: int) -> bool:
        return bool(remarks[i].file and remarks[j].file and remarks[i].file != remarks[j].file)

    groups = [frozenset({place}) for place in range(len(remarks))]
    while True:
        means = [
            (math.fsum(pull(i, j) for i in one for j in two) / (len(one) * len(two)), one, two)
            for one, two in combinations(groups, 2)
            if not any(veto(i, j) for i in one for j in two)
        ]
        best = max((mean for mean, *_ in means), default=0.0)
        if best < alike:
            return set(groups)
        top = [(one, two) for mean, one, two in means if mean > best - 1e-9]
        if len(top) > 1:
            return set()  # a tie: the definition does not say
        groups = [group for group in groups if group not in top[0]] + [top[0][0] | top[0][1]]


@settings(max_examples=150, deadline=None)
@given(REMARKS, st.sampled_from([0.1, 0.3, 0.6]))
def test_it_is_average_linkage(remarks: list[Remark], alike: float) -> None:
    """Catches sums that go wrong as groups are joined, stale heap entries, a veto that leaks."""
    expected = by_hand(remarks, alike)
    if expected:
        assert sets(same_findings(remarks, alike=alike)) == expected


@settings(max_examples=100, deadline=None)
@given(REMARKS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_everything_is_in_one_group(remarks: list[Remark], chance: object) -> None:
    """Catches ties that are broken by place in the list, remarks that are lost or in two groups."""
    places = list(range(len(remarks)))
    chance.shuffle(places)  # type: ignore[attr-defined]
    shuffled = [remarks[place] for place in places]

    def told(given_remarks: list[Remark]) -> list[tuple[list[str], list[str]]]:
        return sorted(
            (sorted(repr(given_remarks[i]) for i in group.members), [repr(given_remarks[i]) for i in group.quoted])
            for group in same_findings(given_remarks, alike=0.3)
        )

    assert told(remarks) == told(shuffled)
    assert sorted(i for group in same_findings(remarks) for i in group.members) == list(range(len(remarks)))
    for group in same_findings(remarks):
        assert set(group.quoted) <= set(group.members)
        voices = {remarks[i].by for i in group.quoted}
        assert len(group.quoted) == len(voices) == len({remarks[i].text for i in group.quoted}) <= QUOTED_MAX
