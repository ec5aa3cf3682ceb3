"""How a reply names an option, and when two free answers are one: the same under a rule and under a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from debate_script import make_config, play, valid
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madflow.core.config import EDITION, Config
from madflow.core.debate import land
from madflow.core.policies import Policy, Reliabilities, policy_named
from madflow.core.protocols.base import answer_form, answer_names, normalise
from madflow.core.state import Ask, Stage

INTERVALS = "A=[0 1),B=(0 1),C=red"
ANSWERS = st.text("aB1 .,*()[]{}'", min_size=1, max_size=6).filter(str.strip)
ALL_OF_IT = Policy("all-of-it", go_on="always", rounds_max=2, pool="last")


def says(rounds: list[list[str]]) -> Callable[[Stage, Ask], Mapping[str, Any]]:
    """Seat i says the i-th word of its round."""
    return lambda stage, ask: valid(ask.kind, answer=rounds[stage.round - 1][int(ask.agent[1:])])


def landed(config: Config, rounds: list[list[str]]) -> dict[str, Any]:
    return land(play(config, says(rounds))[0])


def ruled(**values: Any) -> Config:
    return make_config("s0 s1 s2", **{"rounds": 1, **values})


def guided(**values: Any) -> Config:
    return make_config("s0 s1 s2", policy=ALL_OF_IT, rule="policy:all-of-it", **{"rounds": 1, **values})


def groups(body: dict[str, Any]) -> list[tuple[str, ...]]:
    """Which seats said the same, in whatever order options are numbered."""
    by_choice: dict[str, list[str]] = {}
    for vote in body["votes"]:
        by_choice.setdefault(vote["decision"], []).append(vote["agent"])
    return sorted(map(tuple, by_choice.values()))


@settings(max_examples=60, deadline=None)
@given(st.lists(ANSWERS, min_size=3, max_size=3))
@example(["[0, 1)", "(0, 1)", "(0, 1)."])
@example(["(o1)", "[o1]", "o1"])
@example([".1", "1", "1."])
def test_a_rule_and_a_policy_tell_the_same_free_answers_apart(said: list[str]) -> None:
    """Catches: answers that one of the two merges and the other does not; half-open intervals taken for open ones; a
    tenth taken for one."""
    by_rule, by_policy = landed(ruled(), [said]), landed(guided(), [said])
    assert groups(by_rule) == groups(by_policy)
    texts = [[option["text"] for option in body["content"]["options"]] for body in (by_rule, by_policy)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == len({answer_form(word) for word in said if normalise(word) != "abstain"} - {""})


@pytest.mark.parametrize("config", [ruled(rounds=2, rule="unanimity"), guided(rounds=2)])
def test_an_id_is_one_in_any_brackets_and_a_text_only_in_its_own(config: Config) -> None:
    """Catches: "(o1)" taken for a new answer, or "(0, 1]" for the vote "(0, 1)"."""
    body = landed(config, [["(0, 1)", "[0, 1]", "(0, 1)"], ["(o2)", " **[O2]**", "[0, 1]"]])
    assert [option["text"] for option in body["content"]["options"]] == ["(0, 1)", "[0, 1]"]
    assert [vote["decision"] for vote in body["votes"]] == ["o2", "o2", "o2"]
    other = landed(config, [["(0, 1)", "[0, 1]", "(0, 1)"], ["(0, 1]", "o2", "o2"]])
    assert other["votes"][0]["decision"] in ("invalid", "o3"), "another answer: none of the frozen ones, or a new one"


def test_brackets_tell_a_questions_own_options_apart_and_are_else_only_decoration() -> None:
    """Catches: options that can be named by their id alone; a ballot for an interval that is none of the options."""
    body = landed(ruled(options=INTERVALS), [["[0 1)", "(0 1)", "red."]])
    assert [vote["decision"] for vote in body["votes"]] == ["A", "B", "C"]
    body = landed(ruled(options=INTERVALS), [["(0 1]", "(A)", "[Red]."]])
    assert [vote["decision"] for vote in body["votes"]] == ["invalid", "A", "invalid"]
    body = landed(ruled(options="A=blue,B=green,C=red"), [["(blue]", "(B)", " **[Red].**"]])
    assert [vote["decision"] for vote in body["votes"]] == ["invalid", "B", "C"]


@pytest.mark.parametrize(
    ("texts", "said", "found"),
    [
        (["0,1", "[0,1]"], "(0,1)", None),
        (["0,1", "[0,1]"], "[0,1]", "B"),
        (["0, 1", "1, 2"], "[0, 1)", None),
        (["0, 1", "1, 2"], "[0, 1]", "A"),
        (["0, 1", "1, 2"], "[0, 1", None),
        (["0, 1", "1, 2"], "((0, 1))", None),
        (["red", "(red)"], "[red]", None),
        (["x", "(x"], "(x)", None),
        (["f(x)", "x"], "(x)", None),
        (["x", "y"], "(.x.)", None),
        (["5", "7"], "(.5)", None),
        (["x", "y"], "(", None),
    ],
)
def test_a_reply_that_is_no_option_is_none(texts: list[str], said: str, found: str | None) -> None:
    """Catches: an interval counted as a list of its ends, half of a pair taken for decoration, and brackets dropped
    where options are told apart by them."""
    options = list(zip("AB", texts, strict=True))
    assert answer_names(ruled(options="A=yes,B=no"), options).find(said) == found


def test_a_judge_names_an_open_answer_by_its_brackets() -> None:
    """Catches: a judge's word that two options share, and that therefore decides nothing."""
    config = make_config("s0 s1 j:judge", rounds=1, tie="judge", rule="plurality")

    def answer(stage: Stage, ask: Ask) -> Mapping[str, Any]:
        if ask.kind == "judge":
            return valid("judge", choice="[0, 1)")
        return valid(ask.kind, answer=["(0, 1)", "[0, 1)"][int(ask.agent[1:])])

    body = land(play(config, answer)[0])
    assert body["content"]["answer_text"] == "[0, 1)" and body["decision"]["decided_by"] == "judge:j"


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6, unique=True), ANSWERS)
def test_an_option_is_found_by_its_id_and_its_text_and_by_nothing_else(texts: list[str], said: str) -> None:
    """Against a dumb twin, for options of plain words: a reply names one by its bare form or not at all."""
    options = [(f"x{n}", text) for n, text in enumerate(texts)]
    fixed = answer_names(ruled(options=",".join("=".join(option) for option in options)), options)
    form = answer_form(said)
    inner = answer_form(form[1:-1]) if form[:1] + form[-1:] in ("()", "[]", "{}") else form
    by_id = next((oid for oid, _ in options if oid == normalise(said)), None)
    by_text = next((oid for oid, text in options if text in (form, inner)), None)
    assert fixed.find(said) == (by_id or by_text)
    free = answer_names(ruled(), options)
    assert free.find(said) == (by_id or (by_text if form == inner else None))
    assert all(names.find(f"({oid})") == oid for names in (fixed, free) for oid, _ in options)
    assert answer_names(ruled(), options, ()).find("x0") is None, "a free position names no id"


FIRST_EDITION = [
    (
        {"rounds": 2},
        [["[0, 1)", "(0, 1)", "{0, 2}"], ["o2", "o2", "{0, 2}"]],
        "51d3b2652b398f40e25445bd2ebbdad8f75c8bece8a2e4d21342d6afcb67dd26",
    ),
    (
        {"policy": policy_named("debate"), "rule": "policy:debate", "rounds": 2},
        [["5", "b", ".5"], ["(o1)", "(o1)", "[5]"]],
        "72953dced3037e5dbde142ba9890de67e0cf5327e0a970e00983092c89a1f19a",
    ),
    (
        {
            "seats": "s0",
            "options": "A=a,B=b,C=c,D=d",
            "policy": policy_named("reliable"),
            "rule": "policy:reliable",
            "rounds": 1,
            "learned": Reliabilities({"s0": 0.1}),
        },
        [["A"]],
        "295d81378a1d241c53dbe1a0fb208068ad9d0eefde4eb57d071c604f1be89763",
    ),
    (
        {"options": INTERVALS, "rounds": 1},
        [["[0 1)", "(0 1]", "(red)"]],
        "b613ad1d05771f06697d87d8dcbc590a999197fcca9771de09cd7b708951f07f",
    ),
]


@pytest.mark.parametrize(("values", "rounds", "digest"), FIRST_EDITION)
def test_a_debate_recorded_under_the_first_edition_folds_to_its_own_bytes(
    values: dict[str, Any], rounds: list[list[str]], digest: str
) -> None:
    """Catches: a ledger whose replay no longer gives the proposal in it. The digests were recorded under edition 1."""
    config = make_config(**{"seats": "s0 s1 s2", **values})
    assert config.edition == EDITION and landed(config, rounds)["digest"] != digest
    recorded = config.model_dump(mode="json")
    del recorded["edition"]
    assert landed(Config.model_validate(recorded), rounds)["digest"] == digest
