"""What is wrong with a debate is said in madflow's words."""

from pathlib import Path

import pytest

from madflow.core.messages import Agent
from madflow.debate.run import run_sync
from madflow.debate.setup import Debate, build_config, crew_of, prompts_of, read_task
from madflow.errors import ConfigError, TaskError
from madflow.models.scripted import ScriptedModel


def test_a_validators_words_stand_alone(tmp_path: Path) -> None:
    """Catches pydantic's own "Value error, " in front of them."""
    agents = [Agent("a", ScriptedModel({"*": "Answer: x"}))]
    with pytest.raises(ConfigError) as refused:
        run_sync(Debate(task="?", agents=agents, rule="judge", ledger=tmp_path / "l.db"))
    assert str(refused.value).startswith('the rule or tie policy asks a judge; add an agent with role = "judge"')


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"question": "?", "options": {"A": "Postgres", "B": "SQLite"}}, "options: a dict, not a list"),
        ({"question": "?", "options": "yes"}, "options: a str, not a list"),
        (5, "not int"),
        ("\ud800?", "unicode"),
        ({"question": "?", "context": "\udfff"}, "lone surrogate"),
    ],
)
def test_a_task_of_another_shape_is_refused_rather_than_read_as_one(task: object, says: str) -> None:
    """Catches options whose texts are dropped, and a word that is taken apart into its letters."""
    with pytest.raises(TaskError, match=says):
        read_task(task)  # type: ignore[arg-type]


def test_a_proposal_that_would_outlive_the_calendar_is_refused_before_the_first_call(tmp_path: Path) -> None:
    """Catches a debate that is paid for and can never land, because its expiry has no date."""
    model = ScriptedModel({"*": "Answer: x"})
    with pytest.raises(ConfigError, match="max_age_s"):
        run_sync(Debate(task="?", agents=[Agent("a", model)], expires_s=10**15, ledger=tmp_path / "l.db"))
    assert model.calls == 0


@pytest.mark.parametrize(("ballots", "roles"), [(256, ""), (256, "j"), (256, "jm"), (257, ""), (257, "jm"), (300, "")])
def test_a_panel_has_256_ballots_whoever_sits_beside_them(ballots: int, roles: str) -> None:
    """Catches: one more where no judge sits, one fewer where a mediator does, and pydantic's own words for it."""
    model = ScriptedModel({"*": "Answer: x"})
    agents = [Agent(f"s{number}", model) for number in range(ballots)]
    agents += [Agent(role, model, role=role) for role in ("judge", "mediator") if role[0] in roles]
    debate = Debate(task="?", agents=agents)
    crew = crew_of(debate)
    if ballots == 256:
        assert len(build_config(debate, "d1", crew, prompts_of(crew, "answer")).voters) == 256
        return
    with pytest.raises(ConfigError) as refused:
        build_config(debate, "d1", crew, prompts_of(crew, "answer"))
    assert str(refused.value) == f"{ballots} seats hold a ballot, the limit is 256; leave out {ballots - 256}"


def test_two_agents_of_one_id_are_told_by_it() -> None:
    """Catches: a count of ids that misses one, or names those that are fine."""
    model = ScriptedModel({"*": "Answer: x"})
    debate = Debate(task="?", agents=[Agent(name, model) for name in ("b", "c", "b", "a", "c", "d")])
    crew = crew_of(debate)
    with pytest.raises(ConfigError, match=r"^agents share an id: b, c; every agent needs its own$"):
        build_config(debate, "d1", crew, prompts_of(crew, "answer"))
