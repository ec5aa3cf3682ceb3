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


def test_what_several_seats_say_counts_as_often() -> None:
    """Catches an average in which a seat of its own words outweighs three that say one thing in the same words."""
    claims = tuple(tuple(raised(seat, 10, text) for seat in by) for by, text in (("abc", "x"), ("d", "y"), ("e", "z")))
    pull = {(0, 1): 0.5, (0, 2): 0.3}  # 3 of 4 speak for e with .3: .225 on average
    assert seats(Compared(claims, (0, 1, 2), pull, frozenset()).findings()) == {"abcde"}
    assert seats(Compared((claims[0][:1], *claims[1:]), (0, 1, 2), pull, frozenset()).findings()) == {"ad", "e"}


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
    held_to(compared, judged)


def held_to(compared: Compared, judged: dict[tuple[int, int], bool]) -> None:
    """Every verdict holds, or is among those that are told not to; those that part always hold."""
    unheld = compared.unheld(judged)
    where = {claim: finding.id for finding in compared.findings(judged) for claim in finding.lineage}
    for pair, same in judged.items():
        one, two = (where[compared.claims[place][0]] for place in pair)
        assert (one == two) == (same and pair not in unheld)


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


def place_of(compared: Compared) -> dict[str, int]:
    return {claim[0].agent: place for place, claim in enumerate(compared.claims)}


def pair_of(compared: Compared, one: str, two: str) -> tuple[int, int]:
    i, j = sorted((place_of(compared)[one], place_of(compared)[two]))
    return i, j


def seats(findings: tuple[Finding, ...]) -> set[str]:
    return {"".join(finding.raised_by) for finding in findings}


def test_what_the_reader_calls_different_no_third_claim_brings_together() -> None:
    """Catches a verdict that a third claim, alike to both, overrules."""
    compared = compare([raised("a", 10, NULL), raised("b", 11, NULL), raised("c", 10, NULL_TOO)])
    assert seats(compared.findings()) == {"abc"}
    for one, two in (("a", "c"), ("b", "c"), ("a", "b")):
        pair = pair_of(compared, one, two)
        found = compared.findings({pair: False})
        assert not any({one, two} <= set(group) for group in seats(found)), (one, two)
        assert len(found) == 2
        assert compared.unheld({pair: False}) == {}


def test_a_verdict_that_two_are_the_same_takes_nothing_out_of_a_group() -> None:
    """Catches an average that sinks by what the reader added: the words' own group would lose a member."""
    claims = [raised("a", 10, NULL), raised("b", 10, NULL_TOO), raised("c", 10, "ordering differs")]
    compared = compare([*claims, raised("d", 10, "colour of the shed")])
    verdicts = {pair_of(compared, "a", "c"): True, pair_of(compared, "c", "d"): True}
    assert seats(compared.findings()) == {"ab", "c", "d"}
    assert seats(compared.findings(verdicts)) == {"abcd"}


@pytest.mark.parametrize(
    ("verdicts", "made", "why"),
    [
        ({"ab": True, "bc": True, "ac": False}, {"ab", "c"}, "a pair between them is called different"),
        ({"ab": True, "bd": True}, {"ab", "c", "d"}, "more than 10 lines apart"),
        ({"ab": True, "ae": True}, {"ab", "c", "d", "e"}, "two rule codes"),
        ({"ab": True, "af": True}, {"ab", "c", "d", "f"}, "too many lines apart for a rule code"),
    ],
)
def test_what_cannot_hold_is_told(verdicts: dict[str, bool], made: set[str], why: str) -> None:
    """Catches a verdict that passes without a word, and one that overrules a veto by way of a third claim."""
    said = {
        "a": raised("a", 10, "alpha beta"),
        "b": raised("b", 12, "alpha beta gamma", code="F821"),
        "c": raised("c", 12, "delta"),
        "d": raised("d", 24, "epsilon"),
        "e": raised("e", 10, "zeta", code="B006"),
        "f": raised("f", 6, "eta"),
    }
    left = set("abcd") | {seat for pair in verdicts for seat in pair}
    compared = compare([claim for seat, claim in said.items() if seat in left])
    judged = {pair_of(compared, *pair): same for pair, same in verdicts.items()}
    assert made <= seats(compared.findings(judged))
    (found,) = compared.unheld(judged).values()
    assert found == why


def test_two_claims_of_one_seat_stay_two_whatever_the_reader_says() -> None:
    """Catches a reader who, by way of a third claim, makes one seat's two findings one, and nobody told of it."""
    compared = compare([raised("a", 10, "one thing"), raised("a", 11, "other words"), raised("b", 10, "third place")])
    both = {pair: True for pair in compared.doubtful("z")}
    assert len(both) == 2
    assert sorted(map(len, (finding.lineage for finding in compared.findings(both)))) == [1, 2]
    assert list(compared.unheld(both).values()) == ["two claims of a"]


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
    assert len(compared.near) == NEAR_MAX
    assert compared.beyond == 1_502 - NEAR_MAX
    findings = compared.findings()
    assert sum(len(finding.lineage) for finding in findings) == 1_502
    assert ("b", "c") in {finding.raised_by for finding in findings}


def test_what_many_say_beyond_the_bound_in_the_same_words_is_one() -> None:
    """Catches identical words on one line that stay apart because too much is said there, and a count that hides it."""
    flood = [raised(agent, 10, f"claim{number} zero") for number in range(NEAR_MAX + 5) for agent in "abc"]
    compared = compare(flood)
    assert {finding.raised_by for finding in compared.findings()} == {("a", "b", "c")}
    assert len(compared.near) == NEAR_MAX
    assert compared.beyond == 3 * 5
    assert len(compare([raised("a", 3, "the"), raised("b", 3, "the")]).findings()) == 1  # no word that counts


def test_far_claims_are_not_compared() -> None:
    """Catches a comparison of all with all: a thousand places cost a thousand times one place, not its square."""
    claims = [
        raised(agent, 20 * number, text) for number in range(1, 501) for agent, text in (("a", LOCK), ("b", NULL))
    ]
    compared = compare(claims)
    assert len(compared.pull) + len(compared.apart) <= 500
    assert compared.beyond == 0
    assert len(compared.findings()) == 1_000


def test_a_long_file_is_many_places() -> None:
    """Catches a bound on all that hangs together in a file: places that follow each other are no one place."""
    claims = [raised(agent, 10 * place, f"{LOCK} in step{place}") for place in range(1, 101) for agent in "abcde"]
    compared = compare(claims)
    assert compared.beyond == 0
    assert [finding.raised_by for finding in compared.findings()] == [tuple("abcde")] * 100
    paraphrased = [raised("ab"[place % 2], 4 * place, f"{LOCK} in step{place // 2}") for place in range(2, 402)]
    assert compare(paraphrased).beyond == 0


def test_who_fills_the_space_between_two_places_changes_neither() -> None:
    """Catches two claims of one seat that bridge two places, and with it throw out what was said at both."""
    places = [*range(1, 40), *range(42, 81)]
    claims = [raised(agent, 10 * place, f"{LOCK} in step{place}") for place in places for agent in "abcde"]
    bridged = compare([*claims, raised("x", 400, "bridge one"), raised("x", 410, "bridge two")]).findings()
    assert [finding for finding in bridged if finding.raised_by != ("x",)] == [
        finding.model_copy(update={"id": told.id})
        for finding, told in zip(
            compare(claims).findings(), (told for told in bridged if told.raised_by != ("x",)), strict=True
        )
    ]


def test_no_finding_is_wider_than_what_may_stand_together() -> None:
    """Catches a chain of claims, each near the next, that becomes one finding over a whole file."""
    chain = [raised(f"s{number}", 1 + 6 * number, NULL) for number in range(30)]
    for finding in compare(chain).findings():
        assert finding.lineage[-1].line - finding.lineage[0].line <= LINES_APART_MAX


def test_no_claims_are_no_findings() -> None:
    """Catches a group that is made of nothing."""
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
