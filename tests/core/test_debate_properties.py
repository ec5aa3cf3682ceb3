"""What holds for every debate, whatever its panel says: Hypothesis over configurations and hostile panels."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from debate_script import AT_MS, Ask, Stage, answered, fields_reply, make_config, play, valid
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.core.canonical import canonical
from madflow.core.config import Config
from madflow.core.debate import AskSeats, apply, due, fold, land
from madflow.core.proposal import check_digests
from madflow.core.state import State
from madflow.core.stopping import StopReason

RULES = (
    "majority",
    "supermajority:2/3",
    "unanimity",
    "plurality",
    "approval",
    "borda",
    "condorcet",
    "irv",
    "veto:majority",
    "judge",
)
CHOICES = {
    "position": ["Paris", "paris.", "Rome", "A", "B", "Z", "abstain", "o1"],
    "discuss": ["o1", "o2", "A", "B", "Rome", "Z", "abstain"],
    "draft": ["plan 1", "plan 2", "plan 3"],
    "revise": ["plan 1", "plan 4", "plan 5"],
    "concern": ["too big"],
    "select": ["d1", "d2", "plan 1", "d9", "abstain"],
    "ballot": ["approve", "reject", "abstain"],
    "judge": ["A", "o1", "approve", "reject", "none", "Z"],
}


@st.composite
def configs(draw: st.DrawFn, stop: str = "converged | stable:2 | deadlock:2 | quorum_lost | max_rounds") -> Config:
    protocol = draw(st.sampled_from(["answer", "proposal"]))
    roles = ["proposer", "critic", "debater", "auditor"] if protocol == "proposal" else ["debater"]
    seats = [
        f"{name}:{draw(st.sampled_from(roles))}*{draw(st.integers(1, 3))}"
        for name in "abcde"[: draw(st.integers(1, 5))]
    ]
    fallback = tuple(draw(st.permutations(["mediator", "judge", "human"]))[: draw(st.integers(0, 3))])
    rule, tie = draw(st.sampled_from(RULES)), draw(st.sampled_from(["none", "judge", "earliest"]))
    options = draw(st.sampled_from(["", "A=yes,B=no", "A=yes,B=no,C=maybe"])) if protocol == "answer" else ""
    return make_config(
        " ".join([*seats, "j:judge", "m:mediator"]),
        options,
        protocol=protocol,
        rule=rule,
        tie=tie,
        rounds=draw(st.integers(1, 3)),
        fallback=fallback,
        stop=stop,
    )


def panel(seed: int, garbage: float = 0.2) -> Any:
    """A panel whose every answer is drawn from (seed, stage, ask) alone: the order of arrival cannot reach it."""

    def answer(stage: Stage, ask: Ask) -> dict[str, Any]:
        drawn = random.Random(f"{seed}/{stage.call_id(ask)}")
        if drawn.random() < garbage:
            status = drawn.choice(["invalid", "missing"])
            return {"status": status, "cause": drawn.choice(["timeout", "no_json", "budget_exceeded"])}
        if ask.kind == "mediate":
            draft = {"summary": drawn.choice(["plan 1", "plan 6"]), "plan": []} if drawn.random() < 0.5 else None
            return valid("mediate", kind="modified_proposal", text="try this", draft=draft)
        said = drawn.choice(CHOICES[ask.kind])
        reply = fields_reply(ask.kind, said)
        if ask.kind in ("position", "discuss"):
            reply["confidence"] = drawn.choice([None, 0, 1, 0.5, 0.1])
        return valid(ask.kind, **reply)

    return answer


def landed(state: State) -> dict[str, Any]:
    body = land(state)
    check(body, state)
    return body


def check(body: dict[str, Any], state: State) -> None:
    """Schema, digests, conservation in seats and weight, one stop reason, and nobody approves without a quorum."""
    assert check_digests(json.loads(canonical(body))) == []
    tally, decision = body["decision"]["tally"], body["decision"]
    parts = ("valid", "abstain", "invalid", "missing")
    assert tally["eligible"] == sum(tally[name] for name in parts) == len(state.config.voters) == len(body["votes"])
    assert tally["eligible_weight"] == sum(tally[f"{name}_weight"] for name in parts) == state.config.electorate_weight
    spoken = [vote["decision"] for vote in body["votes"]]
    for name in ("abstain", "invalid", "missing"):
        assert spoken.count(name) == tally[name]
    assert decision["stop_reason"] in get_args(StopReason)
    if decision["result"] in ("approved", "rejected"):
        assert tally["valid_weight"] >= decision["quorum"]
    if decision["result"] == "approved":
        assert decision["choice"] and decision["choice"] not in ("abstain", "invalid", "missing", "none")
    else:
        assert body["content"].get("answer") is None


@given(
    configs(), st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from(["A", "o1", "approve", "reject", "none"])
)
@settings(max_examples=250)
def test_every_debate_lands_and_the_order_of_arrival_changes_no_byte(
    config: Config, seed: int, shuffle: int, human: str
) -> None:
    """Catches answers kept by arrival, options or drafts numbered by who was faster, a fallback tried twice."""
    options = ["none"] if config.protocol == "answer" else ["approve", "reject", "none"]
    word = human if human in options else "none"
    one, events = play(config, panel(seed), human=word)
    other, _ = play(config, panel(seed), order=random.Random(shuffle), human=word)
    body = landed(one)
    assert canonical(body) == canonical(land(other))
    assert canonical(land(fold(config, events))) == canonical(body)
    asked = [closed.stage.kind for closed in one.closed]
    assert asked.count("judge") <= 1
    assert asked.count("mediate") <= 1
    assert len(one.used) == len(set(one.used))
    ballots = [closed.stage.subject["digest"] for closed in one.closed if closed.stage.kind == "ballot"]
    assert len(ballots) == len(set(ballots)), "one ballot per seat and proposal"


@given(configs(), st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_of_the_panel_changes_no_byte(config: Config, seed: int, shuffle: random.Random) -> None:
    seats = list(config.seats)
    shuffle.shuffle(seats)
    other = config.model_copy(update={"seats": tuple(seats)})
    assert canonical(land(play(config, panel(seed))[0])) == canonical(land(play(other, panel(seed))[0]))
    assert config.identity() == other.identity()


@given(configs(), st.integers(0, 10_000), st.sampled_from(["A", "o1", "approve"]))
@settings(max_examples=150)
def test_a_panel_of_garbage_never_approves_whoever_is_asked_after_it(config: Config, seed: int, word: str) -> None:
    """Catches an empty panel counted as unanimous, and a judge, mediator or human who approves without a quorum."""
    mess = panel(seed, garbage=1.0)

    def answer(stage: Stage, ask: Ask) -> dict[str, Any]:
        if ask.kind == "judge":
            return valid("judge", choice=word)
        if ask.kind == "mediate":
            return valid("mediate", kind="modified_proposal", text="x", draft={"summary": "mine", "plan": []})
        drawn = random.Random(f"{seed}/{ask.agent}").random()
        if ask.kind in ("position", "discuss", "ballot", "select") and drawn < 0.3:
            return valid(ask.kind, **fields_reply(ask.kind, "abstain"))
        if ask.kind in ("draft", "revise") and drawn < 0.3:
            return valid(ask.kind, **fields_reply(ask.kind, "plan"))
        return dict(mess(stage, ask))

    state, _ = play(config, answer, human=word)
    assert landed(state)["decision"]["result"] == "quorum_failed"


@given(
    configs(), st.integers(0, 10_000), st.integers(0, 30), st.sampled_from(["budget_exceeded", "timeout", "cancelled"])
)
@settings(max_examples=250)
def test_a_debate_that_is_cut_anywhere_lands_with_that_one_reason(
    config: Config, seed: int, at: int, reason: str
) -> None:
    """`at`: after how many answers. Catches a cut that loses cast ballots, asks for them twice, or lands in nothing."""
    _, events = play(config, panel(seed))
    prefix = events[: 1 + min(at, len(events) - 1)]
    state = fold(config, prefix)
    if state.phase == "ready":
        return
    cut = {"reason": reason, "numbers": {"at": at}, "land": reason != "cancelled", "unstarted": not state.answers}
    state = apply(state, "cut", cut, AT_MS)
    answer = panel(seed)
    for _ in range(60):
        effect = due(state)
        if isinstance(effect, AskSeats):
            assert reason != "cancelled", "a cancelled debate asks nobody"
            for ask in effect.asks:
                state = apply(state, "answered", answered(effect.stage, ask, answer(effect.stage, ask)), AT_MS)
        elif state.phase == "waiting":
            state = apply(state, "cut", {**cut, "land": False}, AT_MS)
    assert state.phase == "ready"
    body = landed(state)
    assert body["decision"]["stop_reason"] in (reason, "judge", "human")


@given(
    configs(stop="converged | unassailable | quorum_lost | max_rounds"),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)
@settings(max_examples=150)
def test_a_vote_closed_early_comes_to_what_the_full_vote_comes_to(config: Config, seed: int, shuffle: int) -> None:
    """One round, so that both ask the same: result and choice must not differ, whatever was not waited for."""
    config = config.model_copy(update={"rounds": 1, "fallback": ()})
    late = config.model_copy(update={"stop": "converged | quorum_lost | max_rounds"})
    early = land(play(config, panel(seed), order=random.Random(shuffle))[0])
    full = land(play(late, panel(seed))[0])
    if config.protocol == "answer":
        same = ("result", "choice", "threshold", "decided_by")
        assert {k: early["decision"][k] for k in same} == {k: full["decision"][k] for k in same}
    else:  # a vote ends early on one plan; the plan itself is asked in full
        assert early["decision"]["result"] == full["decision"]["result"]


def test_hash_randomisation_changes_no_byte() -> None:
    """Catches a set or a dict by hash in anything that is decided or written. Three interpreters, three seeds."""
    program = (
        "import hashlib, test_debate_properties as t\n"
        "from debate_script import play, make_config\n"
        "from madflow.core.debate import land\n"
        "from madflow.core.canonical import canonical\n"
        "h = hashlib.sha256()\n"
        "for seed in range(60):\n"
        "    protocol = ('answer', 'proposal')[seed % 2]\n"
        "    config = make_config('e b:proposer a:critic d c:proposer j:judge m:mediator', protocol=protocol,\n"
        "        rule=t.RULES[seed % len(t.RULES)], tie='judge', fallback=('mediator', 'judge'), rounds=3)\n"
        "    h.update(canonical(land(play(config, t.panel(seed))[0])))\n"
        "print(h.hexdigest())\n"
    )
    found = set()
    for seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tie", ["none", "judge", "earliest"])
@pytest.mark.parametrize("protocol", ["answer", "proposal"])
def test_all_garbage_is_undecided_under_every_rule_and_tie_policy(rule: str, tie: str, protocol: str) -> None:
    config = make_config(
        "a b c j:judge m:mediator", rule=rule, tie=tie, protocol=protocol, fallback=("mediator", "judge")
    )
    state, _ = play(config, lambda _stage, _ask: {"status": "invalid", "cause": "no_json"})
    assert landed(state)["decision"]["result"] == "quorum_failed"
