"""How a reply becomes a ballot. Catches a text read as another seat's option, and options nobody can tell apart."""

import pytest
from debate_script import AT_MS, Ask, Stage, answered, make_config, opened, play, valid
from pydantic import ValidationError

from madflow.core.config import Config
from madflow.core.debate import apply, land
from madflow.core.messages import Task, TaskFile
from madflow.core.state import State
from madflow.errors import ConfigError


def votes(state: State) -> dict[str, tuple[str, str]]:
    return {vote["agent"]: (vote["decision"], vote["notes"]) for vote in land(state)["votes"]}


def after(config_options: str, says: dict[str, str], **values: object) -> State:
    config = make_config(" ".join(says), config_options, rounds=1, **values)  # type: ignore[arg-type]
    return play(config, lambda _stage, ask: valid(ask.kind, answer=says[ask.agent]))[0]


def test_a_free_position_that_looks_like_an_option_id_is_its_own_text() -> None:
    """ "o1" said in round 1 is a position of that text, not a ballot for whatever becomes option o1."""
    state = after("", {"a": "apple", "b": "o1", "c": "apple"})
    body = land(state)
    assert [option["text"] for option in body["content"]["options"]] == ["apple", "o1"]
    assert {agent: said for agent, (said, _) in votes(state).items()} == {"a": "o1", "b": "o2", "c": "o1"}
    assert body["content"]["answer_text"] == "apple"


@pytest.mark.parametrize("word", ["abstain", "Abstain", "ABSTAIN.", " **abstain** "])
@pytest.mark.parametrize("options", ["", "A=yes,B=no"])
def test_abstaining_is_understood_however_it_is_written_and_is_never_an_option(word: str, options: str) -> None:
    state = after(options, {"a": word, "b": word, "c": word}, rule="plurality")
    body = land(state)
    assert body["decision"]["tally"]["abstain"] == 3
    assert body["decision"]["result"] == "quorum_failed"
    assert "abstain" not in [option["text"].casefold() for option in body["content"]["options"]]


def test_a_text_that_two_options_share_names_neither_and_an_id_still_does() -> None:
    state = after("A=same,B=Same.,C=other", {"a": "same", "b": "B", "c": "other"})
    assert votes(state) == {"a": ("invalid", "unknown_option: same"), "b": ("B", ""), "c": ("C", "")}


def test_an_option_without_a_text_is_not_chosen_by_punctuation() -> None:
    assert votes(after("A=,B=no", {"a": "...", "b": "B"}))["a"] == ("invalid", "unknown_option: ...")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("A=x,A=y", "used twice"),
        ("A=x,a=y", "reads like 'A'"),
        ("A=x,...=y", "punctuation"),
        ("A=x,abstain=y", "abstain"),
        ("A=x,abstain.=y", "reads like 'abstain'"),
        ("A=x,None=y", "reserved"),
        (",".join(f"{i}=x" for i in range(501)), "at most 500"),
    ],
)
def test_options_on_which_no_vote_can_be_held_are_refused_before_anything_is_asked(options: str, says: str) -> None:
    """They would otherwise raise in the middle of a debate, out of records that are already durable."""
    with pytest.raises((ConfigError, ValidationError), match=says):
        opened(make_config("a b", options))


def test_a_seat_cannot_choose_its_own_draft() -> None:
    """By id or by text; the ballot is spent, and the draft that others chose goes to the vote."""

    def answer(stage: Stage, ask: Ask) -> dict[str, object]:
        if ask.kind == "draft":
            return valid("draft", summary=f"plan of {ask.agent}", plan=[])
        if ask.kind == "select":
            mine = f"plan of {ask.agent}"
            return valid("select", choices=[mine] if ask.agent in "ab" else ["plan of b"])
        return valid("ballot", decision="approve")

    state, _ = play(make_config("a:proposer b:proposer c:proposer", protocol="proposal"), answer)
    assert land(state)["content"]["author"] == "b"
    alone, _ = play(make_config("a:proposer b:proposer", protocol="proposal"), answer)
    assert land(alone)["content"]["selected_by"] == "order", "two self-votes select nothing"


def test_a_ballot_on_a_motion_takes_no_other_word() -> None:
    config = make_config("p:proposer b", protocol="proposal", rounds=1)
    state = opened(config)
    for agent, part in (("b", valid("concern", claims=[])), ("p", valid("draft", summary="s", plan=[]))):
        assert state.stage is not None
        ask = next(a for a in state.stage.asks if a.agent == agent)
        state = apply(state, "answered", answered(state.stage, ask, part), AT_MS)
    assert state.stage is not None and state.stage.kind == "ballot"
    for ask, word in zip(state.stage.asks, ("approved", "o1"), strict=True):
        body = answered(state.stage, ask, {"status": "valid", "reply": {"decision": word}})
        state = apply(state, "answered", body, AT_MS)
        if state.stage is None:
            break
    assert {said for said, _ in votes(state).values()} == {"invalid"}


@pytest.mark.parametrize(("judge", "chosen"), [("none", None), ("o2", "None")])
def test_a_judge_who_chooses_none_has_not_chosen_the_option_none(judge: str, chosen: str | None) -> None:
    """Catches a refusal to judge that is counted for whatever option has that text."""

    def answer(_stage: Stage, ask: Ask) -> dict[str, object]:
        if ask.kind == "judge":
            return valid("judge", choice=judge)
        return valid("position", answer={"a": "None", "b": "lodash"}[ask.agent])

    config = make_config("a b j:judge", rounds=1, fallback=("judge",))
    body = land(play(config, answer)[0])
    assert body["content"]["answer_text"] == chosen
    assert body["decision"]["result"] == ("approved" if chosen else "no_decision")


@pytest.mark.parametrize(
    ("rule", "ranking", "counted"),
    [
        ("majority", ["B", "A"], "A"),  # the rule reads no ranking: the answer is the ballot
        ("borda", ["A", "B"], "A > B"),
        ("borda", ["B", "A"], "invalid"),
        ("approval", ["B", "A"], "B > A"),
        ("approval", ["B"], "invalid"),
    ],
)
def test_a_ranking_counts_for_nothing_that_the_answer_does_not_say(rule: str, ranking: list[str], counted: str) -> None:
    """The others read the answer; a ballot that says something else is not the seat's word."""
    config = make_config("a b c", "A=yes,B=no", rounds=1, rule=rule)
    state, _ = play(config, lambda _stage, ask: valid(ask.kind, answer="A", ranking=ranking))
    assert {said for said, _ in votes(state).values()} == {counted}


@pytest.mark.parametrize(
    ("says", "result", "dissent"),
    [
        ({"p": "approve", "b": "reject", "c": "reject"}, "rejected", ["p"]),
        ({"p": "approve", "b": "approve", "c": "reject"}, "approved", ["c"]),
        ({"p": "approve", "b": "abstain", "c": "reject"}, "no_decision", ["c", "p"]),
    ],
)
def test_dissent_is_against_what_was_decided(says: dict[str, str], result: str, dissent: list[str]) -> None:
    """Catches the majority that rejects a plan reported as its dissent."""

    def answer(_stage: Stage, ask: Ask) -> dict[str, object]:
        part = {
            "draft": {"summary": "s", "plan": []},
            "concern": {"claims": []},
            "ballot": {"decision": says[ask.agent]},
        }
        return valid(ask.kind, **part[ask.kind])

    config = make_config("p:proposer b:critic c:auditor", protocol="proposal", rounds=1)
    decision = land(play(config, answer)[0])["decision"]
    assert (decision["result"], [row["agent"] for row in decision["dissent"]]) == (result, dissent)


@pytest.mark.parametrize(("kind", "ballots"), [("modified_proposal", 2), ("recommendation", 1), ("common_ground", 1)])
def test_only_a_modified_proposal_of_the_mediator_is_voted_on(kind: str, ballots: int) -> None:
    """Catches a plan that replaces the voted one because it stood beside a recommendation."""

    def answer(_stage: Stage, ask: Ask) -> dict[str, object]:
        match ask.kind:
            case "draft":
                return valid("draft", summary="v1", plan=[])
            case "mediate":
                return valid("mediate", kind=kind, text="t", draft={"summary": "v2", "plan": []})
        return valid("ballot", decision="approve" if ask.agent == "p" else "reject")

    config = make_config("p:proposer b:proposer m:mediator", protocol="proposal", rounds=1, fallback=("mediator",))
    state, _ = play(config, answer)
    assert [closed.stage.kind for closed in state.closed].count("ballot") == ballots
    assert land(state)["proposal_id"] == f"d1-p{ballots}"


def test_who_approved_of_the_winner_among_others_does_not_dissent() -> None:
    config = make_config("a b c", "A=yes,B=no", rounds=1, rule="approval")
    sets = {"a": ["B", "A"], "b": ["A"], "c": ["B"]}
    state, _ = play(config, lambda _, ask: valid(ask.kind, answer=sets[ask.agent][0], ranking=sets[ask.agent]))
    assert land(state)["decision"]["result"] == "no_decision"
    sets["c"] = ["A"]
    state, _ = play(config, lambda _, ask: valid(ask.kind, answer=sets[ask.agent][0], ranking=sets[ask.agent]))
    decision = land(state)["decision"]
    assert (decision["choice"], decision["dissent"]) == ("A", [])


def review_of_one_finding() -> State:
    """A review in which a found something grave, and nobody has been asked what they make of it."""
    file = TaskFile(path="x.py", language="python", diff="@@ -1 +1,2 @@\n a\n+bad()\n", added=(2,), text="a\nbad()\n")
    task = Task(task_id="t", question="?", files=(file,))
    config = Config(debate_id="d1", task=task, seats=make_config("a b c").seats, protocol="review", rounds=2)
    state = opened(config)
    grave = {"file": "x.py", "line": 2, "severity": "critical", "text": "it is bad", "quote": "bad()"}
    for ask in state.outstanding():
        assert state.stage is not None
        part = valid("find", findings=[grave] if ask.agent == "a" else [])
        state = apply(state, "answered", answered(state.stage, ask, part), AT_MS)
    return state


def test_findings_that_nobody_could_vote_on_are_no_approval() -> None:
    """Catches a review that ran out of time before its vote, and lets a critical finding pass for want of one."""
    state = review_of_one_finding()
    cut = {"reason": "timeout", "numbers": {"seconds": 1}, "land": False, "unstarted": True}
    body = land(apply(state, "cut", cut, AT_MS))
    assert body["decision"]["result"] == "quorum_failed"
    assert body["content"]["verdict"] is None
    assert {vote["notes"] for vote in body["votes"]} == {"timeout"}


def test_a_review_of_one_round_is_refused() -> None:
    config = review_of_one_finding().config
    with pytest.raises(ConfigError, match="2 rounds"):
        opened(config.model_copy(update={"rounds": 1}))
