"""What is wrong with a debate is said in madflow's words."""

from pathlib import Path

import pytest

from madflow.core.messages import Agent
from madflow.debate.run import run_sync
from madflow.debate.setup import Debate
from madflow.errors import ConfigError
from madflow.models.scripted import ScriptedModel


def test_a_validators_words_stand_alone(tmp_path: Path) -> None:
    """Catches pydantic's own "Value error, " in front of them."""
    agents = [Agent("a", ScriptedModel({"*": "Answer: x"}))]
    with pytest.raises(ConfigError) as refused:
        run_sync(Debate(task="?", agents=agents, rule="judge", ledger=tmp_path / "l.db"))
    assert str(refused.value).startswith('the rule or tie policy asks a judge; add an agent with role = "judge"')
