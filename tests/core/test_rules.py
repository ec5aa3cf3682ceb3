"""Decision rules by example: ties, thresholds, vetoes, judges, and panels that must never approve."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from madflow.core.ballots import BallotBox
from madflow.core.rules import Outcome, Rule, decide, parse_rule, unassailable
from madflow.errors import ConfigError

EVERY_RULE = [
    "majority",
    "supermajority:2/3",
    "unanimity",
    "plurality",
    "approval",
    "borda",
    "condorcet",
    "irv",
    "judge",
    "veto:majority",
    "veto(s0):judge",
]
TIES = ["none", "judge", "earliest"]
MOTION = ("approve", "reject")
YES, NO = ("approve",), ("reject",)


def vote(*ballots, options=("a", "b", "c"), weights=()) -> BallotBox:
    """Seats s0, s1, … with these ballots: a text or tuple votes, None abstains, ... stays outstanding."""
    electorate = {f"s{i}": weights[i] if weights else 1 for i in range(len(ballots))}
    box = BallotBox.open("s", options, electorate)
    for agent, ballot in zip(electorate, ballots, strict=True):
        if ballot is None:
            box = box.abstain(agent)
        elif ballot is not ...:
            box, _ = box.cast(agent, (ballot,) if isinstance(ballot, str) else ballot, subject="s")
    return box


def run(rule: str, box: BallotBox, *, quorum: int = 1, **kw) -> Outcome:
    return decide(parse_rule(rule), box, quorum=quorum, **kw)


def motion(yes: int, no: int, silent: int = 0) -> BallotBox:
    return vote(*["approve"] * yes, *["reject"] * no, *[None] * silent, options=MOTION)


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("options", [MOTION, ("a", "b", "c"), ("a",), ()])
def test_a_panel_without_a_valid_ballot_never_approves(rule: str, tie: str, options: tuple[str, ...]):
    """Catches garbage, silence, abstention or an empty panel passed as agreement, under any rule, tie or judge."""
    empty = BallotBox.open("s", options, {})
    panel = BallotBox.open("s", options, {"s0": 1, "s1": 2, "s2": 3})
    garbage = panel.spoil("s0", "no_json").cast("s1", ["zebra"], subject="s")[0].cast("s2", [], subject="s")[0]
    silent = panel.abstain("s0").abstain("s1").abstain("s2")
    gone = panel.close("timeout")
    for box, judged, quorum in itertools.product(
        (empty, panel, garbage, silent, gone), (None, *options), (-1, 0, 1, 4)
    ):
        outcome = run(rule, box, quorum=quorum, tie=tie, judged=judged)
        assert outcome.result == "quorum_failed"
        assert (outcome.winner, outcome.tied, outcome.needs_judge, outcome.met) == (None, (), False, False)
        assert set(outcome.scores) == set(options)


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_quorum_failure_outranks_everything(rule: str):
    """Catches a unanimous minority deciding, a veto or a judge without a quorum."""
    for box in (vote("a", None, None), motion(1, 0, 2), motion(0, 1, 2)):
        for judged in (None, "a", "approve"):
            assert run(rule, box, quorum=2, judged=judged).result == "quorum_failed"


@pytest.mark.parametrize(
    ("rule", "yes", "no", "silent", "result"),
    [
        ("majority", 2, 1, 0, "approved"),
        ("majority", 2, 0, 2, "no_decision"),  # half of eligible is not more than half
        ("majority", 3, 2, 0, "approved"),
        ("majority", 1, 2, 0, "rejected"),
        ("majority", 2, 2, 0, "rejected"),  # no seat is left that could carry it
        ("majority", 1, 1, 2, "no_decision"),
        ("supermajority:2/3", 2, 1, 0, "approved"),  # exactly 2/3
        ("supermajority:2/3", 2, 0, 2, "no_decision"),  # 2 of 4 eligible, though all that voted approve
        ("supermajority:2/3", 2, 2, 0, "rejected"),
        ("supermajority:2/3", 3, 1, 0, "approved"),
        ("supermajority:2/3", 0, 1, 2, "no_decision"),
        ("supermajority:1/1", 3, 0, 0, "approved"),
        ("unanimity", 3, 0, 0, "approved"),
        ("unanimity", 3, 0, 1, "no_decision"),  # an abstention is not a yes
        ("unanimity", 3, 1, 0, "rejected"),
        ("plurality", 2, 1, 3, "approved"),
        ("plurality", 1, 3, 2, "rejected"),
        ("plurality", 1, 2, 3, "no_decision"),
        ("condorcet", 2, 1, 0, "approved"),
        ("veto:majority", 3, 1, 0, "rejected"),
        ("veto:majority", 3, 0, 1, "approved"),
    ],
)
def test_motions(rule: str, yes: int, no: int, silent: int, result: str):
    """Catches thresholds over valid instead of eligible weight, and off-by-one at the edge."""
    outcome = run(rule, motion(yes, no, silent))
    assert (outcome.result, outcome.met) == (result, result == "approved")
    assert outcome.winner == ("approve" if result == "approved" else None)


def test_thresholds_are_exact_for_large_weights():
    """Catches floating point: 2/3 of 3·10¹⁷ and one less."""
    for short, result in ((0, "approved"), (1, "no_decision")):
        box = vote("approve", None, options=MOTION, weights=(2 * 10**17 - short, 10**17 + short))
        assert run("supermajority:2/3", box).result == result


def test_tied_motion_asks_the_judge_and_takes_the_answer():
    """Catches a tie that passes, and a judge whose no is a yes."""
    box = motion(1, 1, 2)
    waiting = run("majority", box, tie="judge")
    assert (waiting.result, waiting.tied, waiting.needs_judge, waiting.met) == ("no_decision", MOTION, True, False)
    approved = run("majority", box, tie="judge", judged="approve")
    assert (approved.result, approved.winner, approved.needs_judge, approved.met) == (
        "approved",
        "approve",
        False,
        False,
    )
    rejected = run("majority", box, tie="judge", judged="reject")
    assert (rejected.result, rejected.winner) == ("rejected", None)


@pytest.mark.parametrize("tie", ["none", "earliest"])
@pytest.mark.parametrize("rule", ["majority", "plurality", "irv"])
def test_tied_motion_without_a_judge_is_undecided(rule: str, tie: str):
    """Catches "earliest" turning a split motion into an approval, as approve is listed first."""
    outcome = run(rule, motion(1, 1, 2), tie=tie, judged="approve")
    assert (outcome.result, outcome.tied, outcome.winner) == ("no_decision", MOTION, None)


@pytest.mark.parametrize("rule", ["majority", "plurality", "approval", "borda", "condorcet", "irv"])
def test_ties_between_options(rule: str):
    """Catches a tie broken in secret, and a policy applied to the wrong options."""
    box = vote("c", "b", ("b", "c"), ("c", "b"))
    tied = ("b", "c")
    undecided = run(rule, box)
    assert (undecided.result, undecided.winner, undecided.tied, undecided.met) == ("no_decision", None, tied, False)
    waiting = run(rule, box, tie="judge")
    assert (waiting.result, waiting.needs_judge) == ("no_decision", True)
    assert run(rule, box, tie="judge", judged="c").winner == "c"
    for stray in ("a", "zebra", ""):
        outcome = run(rule, box, tie="judge", judged=stray)
        assert (outcome.result, outcome.needs_judge) == ("no_decision", False)
    earliest = run(rule, box, tie="earliest")
    assert (earliest.result, earliest.winner, earliest.tied, earliest.met) == ("approved", "b", tied, False)


def test_a_judge_cannot_overrule_the_panel():
    """Catches `judged` read where nothing is tied."""
    assert run("majority", vote("a", "a", "b"), tie="judge", judged="b").winner == "a"
    assert run("majority", vote("a", "b", None, None, None), judged="a").result == "no_decision"
    assert run("majority", vote("a", "a", "b", "c"), tie="judge", judged="a").result == "no_decision"


def test_rule_judge_waits_for_any_option_once_a_quorum_voted():
    """Catches a judge deciding alone, or a stray pick taken for an option."""
    box = vote("a", "a", "b")
    assert (run("judge", box).needs_judge, run("judge", box).result) == (True, "no_decision")
    assert run("judge", box, judged="c").winner == "c"
    assert (run("judge", box, judged="z").result, run("judge", box, judged="z").needs_judge) == ("no_decision", False)
    assert run("judge", motion(3, 0), judged="reject").result == "rejected"
    assert run("judge", box, quorum=4, judged="c").result == "quorum_failed"


def test_vetoes_belong_to_their_holders():
    """Catches a veto by anyone where holders are named, and one lost behind a majority."""
    box = motion(2, 1)  # s2 rejects
    assert run("veto:majority", box).result == "rejected"
    assert run("veto(s2):majority", box).result == "rejected"
    assert run("veto(s0,s1):majority", box).result == "approved"
    assert run("veto(s2):majority", vote("approve", "approve", None, options=MOTION)).result == "approved"
    assert run("veto:majority", vote("a", "a", "b")).winner == "a"


def test_approval_counts_sets_and_plurality_first_choices():
    """Catches a later choice counted as a first one, or the reverse."""
    box = vote(("a", "b"), ("c", "b"), ("a",))
    assert run("approval", box).tied == ("a", "b")
    assert dict(run("approval", box).scores) == {"a": "2", "b": "2", "c": "1"}
    assert run("plurality", box).winner == "a"


def test_borda_shares_what_is_left_among_unnamed_options():
    """Catches truncation that pays: naming one option must not deny the others their average."""
    outcome = run("borda", vote(("a",), ("b", "a", "c"), options=("a", "b", "c")))
    assert dict(outcome.scores) == {"a": "3", "b": "5/2", "c": "1/2"}
    assert outcome.winner == "a"


def test_condorcet_cycle_is_a_tie_of_its_members_only():
    """Catches a winner made up in a cycle, and losers offered to the judge."""
    cycle = vote(("a", "b", "c", "d"), ("b", "c", "a", "d"), ("c", "a", "b", "d"), options=("d", "a", "b", "c"))
    outcome = run("condorcet", cycle, tie="judge")
    assert (outcome.winner, outcome.tied) == (None, ("a", "b", "c"))
    assert dict(outcome.scores) == {"d": "0", "a": "2", "b": "2", "c": "2"}
    assert run("condorcet", vote(("a", "b"), ("b", "c"), ("c", "b"))).winner == "b"


def test_instant_runoff_eliminates_and_reports_what_it_cannot():
    """Catches elimination by list order, and exhausted ballots kept in the denominator."""
    outcome = run("irv", vote("a", "a", ("b", "c"), ("c", "b"), ("c", "b")))
    assert (outcome.winner, dict(outcome.scores)) == ("c", {"a": "2", "b": "1", "c": "3"})
    together = run("irv", vote("a", "a", ("b", "c"), ("c", "b")))
    assert together.winner == "a", "b and c are equally low and go together"
    assert run("irv", vote("a", "b", "c")).tied == ("a", "b", "c")
    half = vote("a", "a", "a", "b", "b", ("c", "b"))
    assert run("irv", half).tied == ("a", "b"), "half of the ballots is not more than half"


def test_weights_decide_not_seats():
    """Catches one seat, one vote."""
    box = vote("a", "b", "b", weights=(5, 2, 2))
    for rule in ("majority", "weighted:plurality", "approval", "borda", "condorcet", "irv"):
        assert run(rule, box).winner == "a", rule


@pytest.mark.parametrize(
    ("text", "canonical", "threshold"),
    [
        ("majority", "majority", ">1/2"),
        (" weighted:majority ", "majority", ">1/2"),
        ("supermajority:4/6", "supermajority:2/3", "2/3"),
        ("supermajority:5/5", "supermajority:1/1", "1/1"),
        ("unanimity", "unanimity", "1"),
        ("veto:weighted:borda", "veto:borda", "no veto, most"),
        ("weighted:veto(b, a,a):supermajority:3/4", "veto(a,b):supermajority:3/4", "no veto, 3/4"),
        ("judge", "judge", "judge"),
    ],
)
def test_rules_have_one_text(text: str, canonical: str, threshold: str):
    """Catches two spellings of one rule with two fingerprints."""
    rule = parse_rule(text)
    assert (str(rule), rule.threshold) == (canonical, threshold)
    assert parse_rule(str(rule)) == rule
    assert hash(parse_rule(str(rule))) == hash(rule)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "weighted:majority"),
        ("consensus", "use one of: majority"),
        ("Majority", "use one of: majority"),
        ("weighted", "weighted:majority"),
        ("weighted:weighted:majority", "weighted:majority"),
        ("supermajority", "supermajority:2/3"),
        ("supermajority:0.66", "supermajority:2/3"),
        ("supermajority:1/2", "above 1/2"),
        ("supermajority:4/3", "fraction=4/3"),
        ("supermajority:2/0", "fraction=2/0"),
        ("supermajority:-2/-3", "supermajority:2/3"),
        ("veto", "veto:majority"),
        ("veto():majority", r"veto\(ann,bob\)"),
        ("veto(a b):majority", r"veto\(ann,bob\)"),
        ("veto:veto:majority", "one veto"),
        ("veto:weighted:veto:majority", "one veto"),
        ("veto:" * 900, "one veto"),
        ("majority" * 2000, "characters=16000"),
    ],
)
def test_bad_rules_name_the_fix(text: str, fix: str):
    """Catches a typo read as a default, and nesting that exhausts the stack."""
    with pytest.raises(ConfigError, match=fix):
        parse_rule(text)


def test_a_rule_built_by_hand_is_checked_too():
    """Catches a supermajority of a third, or a veto before nothing."""
    for bad in ({"kind": "supermajority", "p": 1, "q": 3}, {"kind": "veto"}, {"kind": "x"}):
        with pytest.raises(ConfigError):
            Rule(**bad)
    with pytest.raises(ConfigError, match="none, judge, earliest"):
        run("majority", vote("a"), tie="random")
    with pytest.raises(ConfigError, match="none, judge, earliest"):
        unassailable(parse_rule("majority"), vote("a"), quorum=1, tie="random")  # type: ignore[arg-type]


def test_what_rules_ask_of_ballots_and_judges():
    """Catches a ranking rule fed with single choices, or a judge rule without a judge."""
    reads = {rule: parse_rule(rule).reads for rule in EVERY_RULE}
    assert [rule for rule, read in reads.items() if read == "ranking"] == ["borda", "condorcet", "irv"]
    assert [rule for rule, read in reads.items() if read == "set"] == ["approval"]
    assert [rule for rule in EVERY_RULE if parse_rule(rule).needs_judge] == ["judge", "veto(s0):judge"]


@pytest.mark.parametrize(
    ("rule", "box", "quorum", "expected"),
    [
        ("majority", vote("a", "a", ...), 2, True),
        ("majority", vote("a", "b", ...), 2, False),
        ("majority", vote("a", ..., ..., ...), 3, False),  # quorum still open
        ("majority", vote(None, None, ...), 2, True),  # quorum out of reach
        ("supermajority:2/3", vote("reject", "reject", ..., ..., options=MOTION), 2, True),
        ("supermajority:2/3", vote("reject", "reject", ..., ..., options=MOTION), 3, False),
        ("veto(s2):majority", vote("approve", "approve", ..., options=MOTION), 2, False),
        ("veto(s0):majority", vote("approve", "approve", ..., options=MOTION), 2, True),
        ("plurality", vote("a", "a", "b", ...), 2, False),  # b can still draw level
        ("borda", vote("a", "a", "a", ...), 2, True),
        ("condorcet", vote("a", "a", ...), 2, True),
        ("irv", vote("a", "a", ...), 2, True),
        ("judge", vote("a", "a", ...), 2, True),
        ("majority", vote(..., ..., options=()), 1, True),
    ],
)
def test_unassailable_by_example(rule: str, box: BallotBox, quorum: int, expected: bool):
    """Catches a vote called while a veto, a tie or the quorum is open."""
    assert unassailable(parse_rule(rule), box, quorum=quorum) is expected


def test_unassailable_under_a_judge_keeps_the_choice_of_the_judge_open():
    """Catches stopping while a late ballot could still break, or make, the tie that goes to a judge."""
    box = vote("a", "b", "c", ...)
    assert unassailable(parse_rule("majority"), box, quorum=2, tie="none")
    assert not unassailable(parse_rule("majority"), box, quorum=2, tie="judge")
    split = vote("approve", "reject", ..., *[None] * 7, options=MOTION)
    assert unassailable(parse_rule("majority"), split, quorum=2, tie="none")
    assert not unassailable(parse_rule("majority"), split, quorum=2, tie="judge")
    ballots = (("d", "c"), ("b", "a", "d", "c"), ("a", "d"), ...)  # c joins the tie, or not: never decided
    circle = vote(*ballots, options=("a", "b", "c", "d"), weights=(2, 3, 2, 1))
    assert unassailable(parse_rule("condorcet"), circle, quorum=2, tie="none")
    assert not unassailable(parse_rule("condorcet"), circle, quorum=2, tie="judge")


def test_unassailable_is_bounded():
    """Catches an enumeration that explodes: beyond the bound the answer is no, at once."""
    names = tuple("abcdefghij")
    crowd = vote(names, *[...] * 12, options=names)
    assert not unassailable(parse_rule("irv"), crowd, quorum=1)
    weighty = vote(
        "a",
        "b",
        *[...] * 20,
        *[None] * 3,
        options=names,
        weights=(3 * 2**20, 1, *[2**i for i in range(20)], *[2**22] * 3),
    )
    assert unassailable(parse_rule("majority"), weighty, quorum=1, tie="judge")
    close = vote(
        "a",
        "b",
        *[...] * 20,
        *[None] * 3,
        options=names,
        weights=(2**20 - 1, 1, *[2**i for i in range(20)], *[2**22] * 3),
    )
    assert not unassailable(parse_rule("majority"), close, quorum=1, tie="judge")


SCRIPT = """
from madflow.core.ballots import BallotBox
from madflow.core.rules import decide, parse_rule, unassailable
options = ("delta", "alpha", "charlie", "bravo")
ballots = {"zoe": ("alpha", "bravo"), "ann": ("bravo", "charlie", "alpha"), "max": ("charlie", "alpha")}
ballots["kim"] = ("delta",)
for rule in %r:
    for tie in ("none", "judge", "earliest"):
        for agents in (list(ballots), list({*ballots})):
            box = BallotBox.open("s", options, {agent: len(agent) for agent in [*agents, "oz"]})
            for agent in agents:
                box, _ = box.cast(agent, ballots[agent], subject="s")
            print(rule, tie, decide(parse_rule(rule), box, quorum=2, tie=tie), box.tally(), box)
            print(unassailable(parse_rule(rule), box, quorum=2, tie=tie))
"""


def test_hash_seed_changes_nothing():
    """Catches iteration over a set that reaches a result or its text."""
    outputs = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT % EVERY_RULE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert outputs.pop().count("Outcome(") == len(EVERY_RULE) * 3 * 2
