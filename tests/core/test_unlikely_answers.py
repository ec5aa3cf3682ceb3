"""An answer that its policy holds less likely than one that nobody gave: it is told, and not approved."""

from __future__ import annotations

from typing import Any

import pytest
from debate_script import make_config, play, valid
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madflow.core.debate import land
from madflow.core.policies import POLICIES, Debated, Policy, Reliabilities, Said, policy_named
from madflow.core.policies.replay import replay

LETTERS = "ABCDEFGH"
SEATS = ("s0", "s1", "s2")
LEVELS = st.floats(0.01, 0.99)


def heard(*rounds: str, options: int) -> Debated:
    """A text a round: seat i said its i-th letter; "-" is nothing readable."""
    said = tuple(
        tuple(Said(seat, None if letter == "-" else letter) for seat, letter in zip(SEATS, text, strict=True))
        for text in rounds
    )
    return Debated(said, SEATS, rounds_max=3, options=options)


@given(st.text("ABC-", min_size=3, max_size=3), st.integers(3, 8), st.tuples(LEVELS, LEVELS, LEVELS))
@example("-AB", 3, (0.5, 0.25, 0.125))  # A is above a third of nothing, and below what nobody said
@settings(max_examples=300)
def test_it_abstains_exactly_where_an_unsaid_answer_is_more_likely(said: str, options: int, levels: Any) -> None:
    """Against Bayes' rule by hand over all K answers. Catches: a bound that leaves out answers nobody gave, or counts
    them as one."""
    learned = Reliabilities(dict(zip(SEATS, levels, strict=True)))
    verdict = policy_named("reliable").decide(heard(said, options=options), learned)
    likely = {letter: 1.0 for letter in LETTERS[:options]}
    for letter in likely:
        for level, own in zip(levels, said, strict=True):
            if own != "-":
                likely[letter] *= level if own == letter else (1 - level) / (options - 1)
    given_ = max((likely[letter] for letter in set(said) - {"-"}), default=0.0)
    unsaid = max((likely[letter] for letter in set(likely) - set(said)), default=0.0)
    if abs(given_ - unsaid) > 1e-6 * max(likely.values()):
        assert verdict.abstained == (given_ < unsaid)
        assert (verdict.answer is None) == (set(said) == {"-"}), "the answer is still told"


@pytest.mark.parametrize("name", sorted(name for name, one in POLICIES.items() if one.weighing != "reliability"))
def test_shares_that_are_no_probabilities_withhold_nothing(name: str) -> None:
    """Catches: a lone vote of five under a plain policy, a share of 1/5, taken for worse than a guess of four."""
    policy = policy_named(name)
    spoken = tuple(Said(f"s{n}", "A" if n == 0 else None, 0.01) for n in range(5))
    alone = Debated((spoken,) * policy.rounds_max, tuple(f"s{n}" for n in range(5)), policy.rounds_max, 4)
    verdict = policy.decide(alone, Reliabilities())
    assert verdict.answer == "A" and not verdict.abstained


def test_a_guess_is_no_less_likely_than_what_nobody_said() -> None:
    """Catches: rounding that withholds the answer of a seat that is right exactly as often as a guess."""
    for options in range(2, 30):
        level = max(0.01, 1 / options)
        lone = Debated(((Said("s0", "A"),),), ("s0",), 1, options)
        assert not policy_named("reliable").decide(lone, Reliabilities({"s0": level})).abstained


def test_a_run_learns_whom_not_to_rely_on() -> None:
    """The same from votes alone: two agree everywhere, the third is alone; then only the third can be read."""
    run = [heard(f"{a}{a}{b}", options=4) for a, b in zip("ABCDABCDABCD", "BCDABCDABCDA", strict=True)]
    *_, last = replay(policy_named("reliable"), [*run, heard("--A", options=4)])
    assert (last.verdict.answer, last.verdict.abstained) == ("A", True)


@pytest.mark.parametrize("tie", ["none", "earliest"])
@pytest.mark.parametrize("said", ["A--", "AB-"])
def test_a_debate_does_not_approve_it(tie: str, said: str) -> None:
    """Catches: `approved` for what the policy holds wrong, and a tie of two such settled by their order."""
    config = make_config(
        " ".join(SEATS) + " j:judge",
        "A=a,B=b,C=c,D=d",
        policy=Policy("rely", weighing="reliability"),
        rule="policy:rely",
        rounds=1,
        tie=tie,
        learned=Reliabilities({"s0": 0.1, "s1": 0.1, "s2": 0.9}),
    )

    def answer(stage: Any, ask: Any) -> dict[str, Any]:
        letter = said[int(ask.agent[1:])] if ask.kind != "judge" else "B"
        if letter == "-":
            return {"status": "valid", "reply": {"answer": "abstain"}}
        return valid(ask.kind, **({"choice": "B"} if ask.kind == "judge" else {"answer": letter}))

    body = land(play(config, answer)[0])
    quorum = said == "AB-"
    assert body["decision"]["result"] == ("no_decision" if quorum else "quorum_failed")
    assert body["decision"]["choice"] is None and body["content"]["answer"] is None
    assert body["content"]["policy"]["abstained"] and body["content"]["policy"]["answer"] == "A"
    assert body["decision"]["dissent"] and not body["decision"]["mediation"]
    if quorum:
        judged = land(play(config.model_copy(update={"fallback": ("judge",)}), answer)[0])
        assert (judged["decision"]["result"], judged["decision"]["choice"]) == ("approved", "B"), "a fallback may"
