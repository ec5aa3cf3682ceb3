"""A policy inside a debate: the same asks, stops and verdicts as the policy gives outside of it, every ballot kept."""

from __future__ import annotations

from typing import Any

import pytest
from debate_script import make_config, play, valid
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from madflow.core.debate import apply, due, land
from madflow.core.policies import POLICIES, Ask, Debated, Policy, Reliabilities, Said, policy_named
from madflow.core.protocols.guided import GuidedProtocol, debated_of
from madflow.core.state import Ask as SeatAsk
from madflow.core.state import Stage, State, whole_rounds
from madflow.core.topology import order

LETTERS = "A=a,B=b,C=c,D=d"
VOTES = st.lists(st.text("ABCD-", min_size=7, max_size=7), min_size=3, max_size=3)
LEARNED = Reliabilities({"s0": 0.9, "s1": 0.2, "s2": 0.6}, rank={"s0": 0, "s1": 2, "s2": 1})


def seats(count: int) -> str:
    return " ".join(f"s{i}" for i in range(count))


def config_of(policy: Policy, count: int, options: str = LETTERS, **values: Any):
    rounds = values.pop("rounds", policy.rounds_max)
    return make_config(
        seats(count),
        options,
        policy=policy,
        rule=f"policy:{policy.name}",
        rounds=min(rounds, policy.rounds_max),
        **values,
    )


def says(rounds: list[str]):
    """Seat i says the i-th character of a round's text; "-" is no readable reply."""

    def answer(stage: Stage, ask: SeatAsk) -> dict[str, Any]:
        said = rounds[stage.round - 1][int(ask.agent[1:])]
        if said == "-":
            return {"status": "invalid", "cause": "no_json"}
        return valid(ask.kind, answer=said)

    return answer


def by_hand(policy: Policy, config: Any, rounds: list[str], learned: Reliabilities) -> Debated:
    """The dumb twin: reveal what the policy asks for, in the drawn order, until it stops."""
    names = tuple(config.electorate)
    seen = Debated((), names, config.rounds, len(config.task.options))
    while isinstance(step := policy.next(seen, learned), Ask):
        drawn = order(names, debate_id=config.debate_id, round=step.round, seed=config.seed)
        held = list(seen.rounds)
        if step.round > len(held):
            held.append(())
        asked = {said.seat for said in held[-1]}
        fresh = step.chosen([name for name in drawn if name not in asked])
        texts = {name: rounds[step.round - 1][int(name[1:])] for name in fresh}
        held[-1] = (*held[-1], *(Said(name, None if text == "-" else text) for name, text in texts.items()))
        seen = Debated(tuple(held), names, config.rounds, len(config.task.options))
    return seen


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.integers(1, 7), VOTES, st.sampled_from([None, LEARNED]), st.randoms())
def test_a_debate_asks_and_decides_as_its_policy_does(name, count, rounds, learned, chance) -> None:
    """Catches: a seat asked that the policy did not want, or not asked; a vote lost between parts of a round; a verdict
    on other votes than those that were given; an outcome that depends on who answered first."""
    policy = policy_named(name)
    learned = learned if count >= len(LEARNED.by_seat) else None
    config = config_of(policy, count, learned=learned)
    state, _ = play(config, says(rounds), order=chance)
    expected = by_hand(policy, config, rounds, learned or Reliabilities())
    seen = debated_of(state)
    assert [sorted((one.seat, one.answer) for one in spoken) for spoken in seen.rounds] == [
        sorted((one.seat, one.answer) for one in spoken) for spoken in expected.rounds
    ]
    verdict = policy.decide(expected, learned or Reliabilities())
    proposal = land(state)
    decision, content = proposal["decision"], proposal["content"]
    assert content["policy"]["tied"] == list(verdict.tied)
    assert content["policy"]["confidence"] == f"{verdict.confidence:.6f}"
    assert decision["choice"] == (verdict.answer if decision["result"] == "approved" else None)
    assert decision["rule"] == f"policy:{name}"
    tally = decision["tally"]
    assert tally["eligible"] == count == tally["valid"] + tally["abstain"] + tally["invalid"] + tally["missing"]
    asked = {one.seat for spoken in seen.rounds for one in spoken}
    assert tally["missing"] == count - len(asked)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), VOTES)
def test_it_approves_one_answer_with_a_quorum_of_those_asked_and_nothing_else(name, rounds) -> None:
    """Catches: a tie that passes as a majority, a panel of garbage that approves."""
    policy = policy_named(name)
    state, _ = play(config_of(policy, 5), says(rounds))
    decision = land(state)["decision"]
    tied = land(state)["content"]["policy"]["tied"]
    asked = decision["tally"]["eligible"] - decision["tally"]["missing"]
    if decision["result"] == "approved":
        assert len(tied) == 1 and 2 * decision["tally"]["valid"] > asked
    elif decision["result"] == "no_decision":
        assert len(tied) > 1
    else:
        assert decision["result"] == "quorum_failed" and 2 * decision["tally"]["valid"] <= asked
    garbage, _ = play(config_of(policy, 5), says(["-----"] * 3))
    assert land(garbage)["decision"]["result"] == "quorum_failed"


def test_a_round_in_parts_is_one_round() -> None:
    """Catches: parts of a round counted as rounds, or a part that hides the one before it."""
    state, events = play(config_of(policy_named("lead"), 7), says(["ABABAAA"]))
    parts = list(state.closed)
    assert len(parts) > 1 and {closed.stage.round for closed in parts} == {1}
    (joined,) = whole_rounds(state.closed)
    assert set(joined.answers) == {ask for part in parts for ask in part.stage.asks}
    assert land(state)["decision"]["rounds"] == 1
    assert sum(kind == "answered" for kind, _, _ in events) == len(joined.answers)


def test_an_open_question_stays_open() -> None:
    """Catches: an answer of round 2 that nobody gave in round 1 and that is lost; ids that move when it comes."""
    always = Policy("all-of-it", go_on="always", rounds_max=3, pool="last")
    rounds = [["12", "13", "12"], ["12", "14", "14"], ["14", "14", "14"]]

    def answer(stage: Stage, ask: SeatAsk) -> dict[str, Any]:
        return valid(ask.kind, answer=rounds[stage.round - 1][int(ask.agent[1:])])

    state, _ = play(config_of(always, 3, options=""), answer)
    content = land(state)["content"]
    assert [option["text"] for option in content["options"]] == ["12", "13", "14"]
    assert [option["id"] for option in content["options"]] == ["o1", "o2", "o3"]
    assert content["answer_text"] == "14"
    assert land(state)["decision"]["tally"]["invalid"] == 0


def test_a_cut_in_the_middle_of_a_round_keeps_what_was_asked() -> None:
    """Catches: a budget that runs out between two parts and loses the first one's votes."""
    config = config_of(policy_named("lead"), 7)
    _, events = play(config, says(["ABABAAA"]))
    opened = State(config)
    first = [event for event in events if event[0] == "opened" or (event[0] == "answered" and event[1]["stage"] <= 2)]
    for kind, payload, at_ms in first:
        opened = apply(opened, kind, payload, at_ms)
    cut = apply(opened, "cut", {"reason": "budget_exceeded", "numbers": {}, "land": True, "unstarted": True})
    assert due(cut) is not None and cut.phase == "ready"
    decision = land(cut)["decision"]
    assert decision["stop_reason"] == "budget_exceeded"
    assert decision["tally"]["valid"] == 2 and decision["tally"]["missing"] == 5


def test_nobody_answers_and_no_second_round_is_paid_for() -> None:
    """Catches: a policy that goes on because nobody is sure, with seats that are all gone."""
    state, _ = play(config_of(policy_named("robust"), 3), lambda stage, ask: {"status": "missing", "cause": "timeout"})
    assert state.stop is not None and state.stop.reason == "quorum_lost"
    assert {closed.stage.round for closed in state.closed} == {1}
    assert land(state)["decision"]["result"] == "quorum_failed"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rule": "majority"}, "counts in place of a rule"),
        ({"protocol": "proposal"}, "a policy answers questions"),
        ({"rounds": 4}, "holds 3 rounds at most (rounds=4)"),
        ({"faulty": 1}, "a quorum of those it asks (faulty=1)"),
        ({"learned": Reliabilities({"zoe": 0.5})}, "seats that this panel has not: zoe"),
    ],
)
def test_what_does_not_go_with_a_policy_is_named(values: dict[str, Any], said: str) -> None:
    """Catches: a rule, a protocol or rounds that are silently ignored."""
    given_ = {"policy": policy_named("met"), "rule": "policy:met", "rounds": 3, **values}
    with pytest.raises(ValidationError) as caught:
        make_config("s0 s1 s2", LETTERS, **given_)
    assert said in str(caught.value)
    with pytest.raises(ValidationError, match="leave their weights at 1"):
        make_config("s0*2 s1 s2", LETTERS, policy=policy_named("met"), rule="policy:met", rounds=3)
    with pytest.raises(ValidationError, match="learned goes with a policy"):
        make_config("s0 s1", LETTERS, learned=Reliabilities())


def test_the_stage_order_is_drawn_and_not_the_panels() -> None:
    """Catches: the first seat of the panel always asked first."""
    policy = policy_named("lead")
    first = set()
    for seed in range(40):
        config = make_config("s0 s1 s2 s3", LETTERS, policy=policy, rule="policy:lead", rounds=1, seed=seed)
        (ask,) = GuidedProtocol().first(State(config)).asks
        first.add(ask.agent)
    assert first == {"s0", "s1", "s2", "s3"}


def says_words(rounds: list[list[str]]):
    """As `says`, in words; "-" is missing."""

    def answer(stage: Stage, ask: SeatAsk) -> dict[str, Any]:
        said = rounds[stage.round - 1][int(ask.agent[1:])]
        return {"status": "missing", "cause": "timeout"} if said == "-" else valid(ask.kind, answer=said)

    return answer


def test_an_id_that_nobody_was_shown_is_no_vote() -> None:
    """Catches: a seat that writes o3 where there is only o1, counted for what becomes o3 in the same round."""
    always = Policy("all-of-it", go_on="always", rounds_max=2, pool="last")
    rounds = [["apple"] * 5, ["banana", "cherry", "o3", "banana", "cherry"]]
    state, _ = play(config_of(always, 5, options=""), says_words(rounds))
    decision, content = land(state)["decision"], land(state)["content"]
    assert [option["text"] for option in content["options"]] == ["apple", "banana", "cherry"]
    assert decision["result"] == "no_decision" and decision["tally"]["invalid"] == 1
    named, _ = play(config_of(always, 5, options=""), says_words([["apple"] * 5, ["o1", "o1", "o1", "b", "c"]]))
    assert land(named)["content"]["answer_text"] == "apple", "an id that was shown is one"


def test_brackets_are_part_of_an_open_answer() -> None:
    """Catches: half-open and open intervals counted as one answer."""
    state, _ = play(config_of(policy_named("vote"), 3, options=""), says_words([["[0, 1)", "(0, 1)", "(0, 1)."]]))
    content = land(state)["content"]
    assert content["answer_text"].startswith("(0, 1)") and len(content["options"]) == 2


@pytest.mark.parametrize("unstarted", [True, False])
def test_a_cut_part_takes_no_earlier_part_with_it(unstarted: bool) -> None:
    """Catches: paid ballots of a round's first part thrown away because its second part was cut."""
    parts = Policy("parts", ask="lead:3", ask_first=3, go_on="always", rounds_max=2, pool="last")
    config = config_of(parts, 5)
    state, events = play(config, says(["ABABA", "BBBBB"]))
    second = [closed for closed in state.closed if closed.stage.round == 2]
    assert len(second) > 1, "the second round is held in parts"
    number = second[1].stage.number
    cut = State(config)
    for kind, payload, at_ms in events:
        if kind == "opened" or (kind == "answered" and payload["stage"] < number):
            cut = apply(cut, kind, payload, at_ms)
    numbers = {"reason": "budget_exceeded", "numbers": {}, "land": True, "unstarted": unstarted}
    landed = land(apply(cut, "cut", numbers))
    voted = {vote["agent"]: vote for vote in landed["votes"]}
    asked = [ask.agent for ask in second[0].stage.asks]
    assert all(voted[agent]["round"] == 2 and voted[agent]["decision"] in "AB" for agent in asked)
    assert landed["content"]["policy"]["asked"][1:] == [len(asked)]
    assert landed["decision"]["result"] == "approved" and landed["decision"]["choice"] == "B"


def test_a_second_round_that_fails_takes_no_first_vote_away() -> None:
    """Catches: a quorum lost to timeouts in round 2, of a policy that counts round 1 as well."""
    answer = says_words([["A", "B", "C"], ["A", "-", "-"]])
    state, _ = play(config_of(policy_named("pooled"), 3), answer)
    landed = land(state)
    assert landed["decision"]["result"] == "approved" and landed["decision"]["choice"] == "A"
    assert [vote["round"] for vote in landed["votes"]] == [2, 1, 1]


def test_unassailable_is_only_said_where_votes_weigh_the_same() -> None:
    """Catches: a debate stopped as decided while two reliable seats could still turn it."""
    rely = Policy("rely", ask="lead:3", weighing="reliability")
    learned = Reliabilities({"s0": 0.3, "s1": 0.3, "s2": 0.3, "s3": 0.9, "s4": 0.9})
    seen = Debated((tuple(Said(f"s{n}", "A") for n in range(3)),), tuple(f"s{n}" for n in range(5)), 1, 4)
    assert rely.next(seen, learned).reason == "converged"  # type: ignore[union-attr]
    assert policy_named("lead").next(seen, learned).reason == "unassailable"  # type: ignore[union-attr]
