"""Claims that say the same become one finding, whatever their words; what a finding's laws keep apart stays apart."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.findings import SEVERITIES, Finding, Raised, merge
from madflow.core.merging import DOUBTFUL_MAX, NEAR_MAX, Compared, compare
from madflow.core.same import ALIKE_MIN, LINES_APART_MAX

NULL = "`parse_header` dereferences `header` without a check: a request without a Host line has header None and crashes"
NULL_TOO = "When Host is missing `header` is None here, so parse_header raises AttributeError and the request fails"
LOCK = "`flush` sleeps between retries while it still holds `self._lock`, so that every writer waits"
LOCK_TOO = "self._lock is held during time.sleep in flush(): other threads cannot write for seconds"
LEAK = "The descriptor from `open_log` leaks if `rotate` raises; close it in a finally block"


def raised(agent: str, line: int, text: str, **more: Any) -> Raised:
    fields = {"file": "f.py", "severity": "major", "verified": True, "stated_line": line, "stated_severity": "major"}
    return Raised(**{**fields, "agent": agent, "line": line, "text": text, **more})


def told(findings: tuple[Finding, ...]) -> list[set[tuple[str, int]]]:
    return [{(claim.agent, claim.line) for claim in finding.lineage} for finding in findings]


def found(*claims: Raised) -> list[set[tuple[str, int]]]:
    return told(compare(claims).findings())


# --- small reviews: two seats, one to three claims each


@pytest.mark.parametrize(("one", "two"), [(NULL, NULL_TOO), (LOCK, LOCK_TOO)])
@pytest.mark.parametrize("lines", [0, 3])
def test_two_claims_in_other_words_are_one_finding(one: str, two: str, lines: int) -> None:
    """Catches a likeness that fails where two claims are all there is to learn common words from."""
    claims = (raised("a", 10, one), raised("b", 10 + lines, two))
    assert found(*claims) == [{("a", 10), ("b", 10 + lines)}]
    assert len(merge(claims)) == 2  # what words in common do not see


def test_a_small_review_merges_what_is_one_and_keeps_what_is_two() -> None:
    """Catches neighbours that are joined because they stand on neighbouring lines."""
    review = [
        raised("a", 10, NULL),
        raised("a", 14, LOCK),
        raised("a", 15, "`retries` is never decreased, so the loop does not end"),
        raised("b", 11, NULL_TOO),
        raised("b", 13, LOCK_TOO),
        raised("b", 12, LEAK),
    ]
    groups = [{("a", 10), ("b", 11)}, {("b", 12)}, {("a", 14), ("b", 13)}, {("a", 15)}]
    assert sorted(map(sorted, found(*review))) == sorted(map(sorted, groups))


def test_of_defects_that_read_alike_each_joins_its_own_place() -> None:
    """Catches a likeness that knows no place: two seats report the same two twins, and the pairs cross."""
    twins = [raised(agent, line, NULL) for agent in "ab" for line in (10, 16)]
    assert found(*twins) == [{("a", 10), ("b", 10)}, {("a", 16), ("b", 16)}]
    near = f"{NULL}; check it first"
    assert found(raised("a", 10, NULL), raised("b", 10, near), raised("b", 16, NULL))[0] == {("a", 10), ("b", 10)}


def test_how_common_a_word_is_is_learned_on_the_whole_review() -> None:
    """Catches words learned on one place only: what every finding of a review says tells nothing apart."""
    pair = (raised("a", 10, "header is None here"), raised("b", 10, "None is passed as header"))
    elsewhere = [raised("c", 20 * line, "None again", file="g.py") for line in range(1, 9)]
    alone, among = compare(pair), compare([*pair, *elsewhere])
    assert among.pull[0, 1] != alone.pull[0, 1]
    assert compare([*pair, *elsewhere, raised("d", 99, "header")]).pull[0, 1] < among.pull[0, 1]


# --- what is never one


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (raised("a", 10, NULL), raised("b", 10, NULL, file="g.py")),
        (raised("a", 10, NULL), raised("b", 10 + LINES_APART_MAX + 1, NULL)),
        (raised("a", 10, NULL), raised("a", 11, NULL)),  # one seat, two lines
        (raised("a", 10, NULL), raised("a", 10, NULL_TOO)),  # one seat, two texts
        (raised("a", 10, NULL, code="F821"), raised("b", 10, NULL, code="B006")),
        (raised("a", 10, NULL, code="F821"), raised("a", 10, NULL, code="B006")),
        (raised("a", 10, NULL, code="F821"), raised("b", 13, NULL, code="F821")),  # a rule knows its line
        (raised("a", 10, NULL, code="F821"), raised("b", 13, NULL)),
    ],
)
def test_what_is_never_one(one: Raised, two: Raised) -> None:
    """Catches each veto that is left out, and a reader's verdict that overrules one."""
    compared = compare([one, two])
    assert len(compared.findings()) == 2
    assert compared.doubtful("z") == ()
    assert len(compared.findings({(0, 1): True})) == 2


def test_a_third_claim_joins_no_two_of_one_seat() -> None:
    """Catches a veto that is forgotten once one of the two is in a group."""
    groups = found(raised("a", 10, NULL), raised("b", 11, NULL), raised("a", 12, NULL), raised("c", 11, NULL_TOO))
    assert sorted(map(len, groups)) == [1, 3]


def test_the_same_rule_at_one_place_is_one_whatever_the_words() -> None:
    """Catches codes that only forbid."""
    assert len(found(raised("a", 1, "x", code="B006"), raised("b", 2, "mutable default", code="B006"))) == 1
    assert len(found(raised("a", 1, "undefined name `host`", code="F821"), raised("b", 1, "host is undefined"))) == 1


def test_a_seat_that_repeats_itself_counts_once() -> None:
    """Catches a claim said thrice that makes its words common, or that a seat outweighs others by."""
    echo = [raised("a", 10, NULL, severity=severity) for severity in ("minor", "major", "minor")]
    compared = compare([*echo, raised("b", 11, NULL_TOO), raised("b", 40, LEAK)])
    assert len(compared.claims) == 3
    assert [len(finding.lineage) for finding in compared.findings()] == [4, 1]
    alone = compare([echo[0], raised("b", 11, NULL_TOO), raised("b", 40, LEAK)])
    assert alone.pull == compared.pull


# --- the spokesman, the order, the lineage


def test_the_gravest_verified_claim_speaks_and_nothing_is_lost() -> None:
    """Catches a finding whose text, line or severity is of none of its claims, or of a lesser one."""
    weak = raised("a", 10, NULL, severity="critical", verified=False)
    strong = raised("b", 11, NULL_TOO, severity="critical", quote="header.strip()")
    (finding,) = compare([weak, strong]).findings()
    assert (finding.text, finding.line, finding.severity, finding.quote) == (NULL_TOO, 11, "critical", "header.strip()")
    assert (finding.id, finding.raised_by, finding.verified) == ("F1", ("a", "b"), True)
    assert Counter(finding.lineage) == Counter([weak, strong])


WORDS = st.lists(
    st.sampled_from(["loop", "never", "ends", "`read_all`", "readAll", "password", "printed", "zero", "the"]),
    min_size=1,
    max_size=5,
)
CLAIMS = st.lists(
    st.builds(
        lambda agent, line, words, severity, code, file: raised(
            agent, line, " ".join(words), severity=severity, code=code, file=file
        ),
        st.sampled_from("abcd"),
        st.integers(1, 30),
        WORDS,
        st.sampled_from(SEVERITIES),
        st.sampled_from(["", "", "", "B006", "F821"]),
        st.sampled_from(["f.py", "f.py", "g.py"]),
    ),
    max_size=14,
)


def never_one(one: Raised, two: Raised) -> bool:
    """The laws, written down a second time."""
    codes = {one.code, two.code} - {""}
    if one.file != two.file or len(codes) > 1:
        return True
    if one.agent == two.agent:
        return one.line != two.line or one.text != two.text
    return abs(one.line - two.line) > (2 if codes else 10)


@given(CLAIMS, st.randoms(use_true_random=False), st.data())
def test_the_laws_of_findings_hold(claims: list[Raised], chance: random.Random, data: st.DataObject) -> None:
    """Catches a result that depends on order, a claim lost or told twice, a law broken with or without a reader."""
    compared = compare(claims)
    pairs = compared.doubtful("d")
    judged = {pair: data.draw(st.booleans()) for pair in pairs}
    shuffled = claims.copy()
    chance.shuffle(shuffled)
    assert compare(shuffled) == compared
    for findings in (compared.findings(), compared.findings(judged)):
        assert Counter(claim for finding in findings for claim in finding.lineage) == Counter(claims)
        assert [finding.id for finding in findings] == [f"F{number}" for number in range(1, len(findings) + 1)]
        places = [(finding.file, finding.line) for finding in findings]
        assert places == sorted(places)
        for finding in findings:
            assert not any(never_one(one, two) for one, two in combinations(finding.lineage, 2))
            assert finding.severity == max((claim.severity for claim in finding.lineage), key=SEVERITIES.index)
            assert finding.text in {claim.text for claim in finding.lineage if claim.severity == finding.severity}
    assert told(compare(shuffled).findings(judged)) == told(compared.findings(judged))


@given(CLAIMS)
def test_doubt_is_about_what_a_reader_may_decide(claims: list[Raised]) -> None:
    """Catches a reader that judges its own claims, one seat's claims, what a law decides, or what is in no doubt."""
    compared = compare(claims)
    pairs = compared.doubtful("a")
    assert len(set(pairs)) == len(pairs) <= DOUBTFUL_MAX
    for i, j in pairs:
        one, two = compared.claims[i][0], compared.claims[j][0]
        assert i < j
        assert "a" not in (one.agent, two.agent)
        assert one.agent != two.agent
        assert not never_one(one, two)
        value = compared.pull.get((i, j), 0.0)
        assert value <= 2 * ALIKE_MIN
        assert value >= ALIKE_MIN / 2 or abs(one.line - two.line) <= 2


# --- a reader's verdicts


def test_verdicts_join_and_part_and_the_nearest_to_the_threshold_come_first() -> None:
    """Catches verdicts that are ignored or inverted, and pairs at one place that no word speaks for and nobody asks."""
    claims = (raised("a", 10, NULL), raised("b", 10, "ordering differs"), raised("c", 11, NULL_TOO))
    compared = compare(claims)
    places = {claim[0].agent: place for place, claim in enumerate(compared.claims)}
    ab = tuple(sorted((places["a"], places["b"])))
    ac = tuple(sorted((places["a"], places["c"])))
    assert compared.doubtful("z")[0] == ac
    assert ab in compared.doubtful("z")
    assert compared.doubtful("a") == tuple(pair for pair in compared.doubtful("z") if places["a"] not in pair)
    assert len(compared.findings({ac: False})) == 3
    assert len(compared.findings({ac: True, ab: True})) == 1


# --- bounds


def test_a_reader_is_asked_about_so_many_pairs_the_nearest_of_all_places() -> None:
    """Catches a prompt without a bound, and pairs that are chosen by place in the review."""
    claims = []
    for place in range(1, DOUBTFUL_MAX + 11):
        claims += [raised("a", 20 * place, "one thing"), raised("b", 20 * place, "other words")]
    near = (raised("a", 9_000, LOCK), raised("b", 9_000, "time.sleep with the lock held"))
    compared = compare([*claims, *near])
    pairs = compared.doubtful("z")
    assert len(pairs) == DOUBTFUL_MAX
    assert {compared.claims[place][0].line for place in pairs[0]} == {9_000}


def test_a_flood_on_one_line_is_bounded_and_crowds_nobody_out() -> None:
    """Catches a review that fails or takes for ever, and a seat whose claims push those of the others out."""
    flood = [raised("a", 10, f"claim{number} zero") for number in range(1_500)]
    compared = compare([*flood, raised("b", 10, LOCK), raised("c", 10, LOCK_TOO)])
    assert [len(run) for run in compared.runs] == [NEAR_MAX]
    assert compared.beyond == 1_502 - NEAR_MAX
    findings = compared.findings()
    assert sum(len(finding.lineage) for finding in findings) == 1_502
    assert ("b", "c") in {finding.raised_by for finding in findings}


def test_far_claims_are_not_compared() -> None:
    """Catches a comparison of all with all: a thousand places cost a thousand times one place, not its square."""
    claims = [raised(agent, 20 * number, LOCK) for number in range(1, 501) for agent in "ab"]
    compared = compare(claims)
    assert [len(run) for run in compared.runs] == [2] * 500
    assert {finding.raised_by for finding in compared.findings()} == {("a", "b")}
    assert compared.beyond == 0


def test_no_claims_are_no_findings() -> None:
    """Catches a run that is opened for nothing."""
    assert compare(()) == Compared((), (), {}, frozenset())
    assert compare(()).findings() == ()


# --- what ledgers rely on


def test_the_rule_is_what_ledgers_were_written_by() -> None:
    """Catches a change of the rule `same`, in core.same too: replays compute it again. Give a change another name."""
    claims = [
        raised("a", 10, NULL),
        raised("b", 12, NULL_TOO),
        raised("c", 10, "crash on a missing header"),
        raised("a", 20, LOCK),
        raised("b", 23, LOCK_TOO),
        raised("c", 22, "time.sleep with the lock held", code="ASYNC251"),
    ]
    compared = compare(claims)
    assert [claim[0].agent for claim in compared.claims] == list("cabacb")
    assert dict(compared.pull) == {
        (0, 1): 0.317159436,
        (0, 2): 0.250135736,
        (1, 2): 0.315233554,
        (3, 4): 0.151126763,
        (3, 5): 0.229297863,
        (4, 5): 0.447774731,
    }
    assert found(*claims) == [{("a", 10), ("c", 10), ("b", 12)}, {("a", 20), ("c", 22), ("b", 23)}]
    assert compared.doubtful("z") == ((3, 4), (3, 5), (0, 2), (1, 2), (0, 1))
