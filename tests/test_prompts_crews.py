"""Crews: every shipped one loads; every mistake in one names file, key and fix."""

import os
from pathlib import Path

import pytest

from madflow.core.messages import Seat
from madflow.crews import AGENTS_MAX, CrewDefaults, generic_crew, list_crews, load_crew
from madflow.errors import ConfigError

TOML = """
protocol = "answer"
[defaults]
rounds = 2
[[agents]]
id = "one"
[[agents]]
id = "two"
model = "scripted"
[[agents]]
id = "three"
"""


def write(folder: Path, text: str = TOML) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "crew.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", list_crews())
def test_a_shipped_crew_loads_and_its_agents_make_seats(name: str) -> None:
    """Catches a crew file whose agents the debate would refuse later."""
    crew = load_crew(name)
    assert crew.name == name
    assert crew.description
    for agent in crew.agents:
        Seat(
            agent=agent.id,
            role=agent.role,
            model=agent.model or "m",
            family=agent.family or "f",
            weight=agent.weight,
            persona=agent.persona,
            max_output_tokens=agent.max_output_tokens,
        )


def test_the_shipped_crews() -> None:
    """Catches a crew that is dropped or renamed: commands and docs name these."""
    assert list_crews() == ("analysers", "generic", "planning", "review")
    assert {agent.model for agent in load_crew("analysers").agents} == {
        "analyser:correctness",
        "analyser:security",
        "analyser:maintainability",
    }
    assert all("Your focus" in agent.persona for agent in load_crew("review").agents)
    planning = load_crew("planning")
    assert planning.protocol == "proposal"
    assert planning.defaults.fallback == ("mediator",)
    assert [agent.role for agent in planning.agents] == ["proposer", "critic", "auditor", "mediator"]


def test_models_are_dealt_round_robin_to_agents_without_one(tmp_path: Path) -> None:
    """Catches a model given in the file that --model replaces, and a deal that depends on anything but order."""
    crew = load_crew(write(tmp_path / "c"), models=["x", "y"])
    assert [agent.model for agent in crew.agents] == ["x", "scripted", "y"]
    assert [a.model for a in generic_crew(5, ["x", "y"]).agents] == ["x", "y", "x", "y", "x"]
    assert [agent.model for agent in load_crew(tmp_path / "c").agents] == ["", "scripted", ""]


def test_more_models_than_agents_that_take_one_are_refused(tmp_path: Path) -> None:
    """Catches a --model that would silently be ignored, above all with the analysers."""
    with pytest.raises(ConfigError, match="3 models given, 2 of 3 agents take one"):
        load_crew(write(tmp_path / "c"), models=["x", "y", "z"])
    with pytest.raises(ConfigError, match="1 models given, 0 of 3 agents take one"):
        load_crew("analysers", models=["x"])
    with pytest.raises(ConfigError, match="empty model name"):
        generic_crew(2, ["x", ""])


@pytest.mark.parametrize("n", [0, -1, AGENTS_MAX + 1])
def test_a_generic_crew_has_one_to_26_agents(n: int) -> None:
    """Catches seats without a letter."""
    with pytest.raises(ConfigError, match=f"1 to 26 agents, not {n}"):
        generic_crew(n)


def test_a_generic_crew_is_the_generic_crew_with_n_seats() -> None:
    """Catches --agents 3 and --crew generic drifting apart."""
    assert generic_crew(3) == load_crew("generic")
    assert [agent.id for agent in generic_crew(26).agents][::25] == ["a1", "a26"]


def test_defaults_leave_what_is_absent_to_the_debate(tmp_path: Path) -> None:
    """Catches a default that a crew file never asked for."""
    assert load_crew(write(tmp_path / "c")).defaults == CrewDefaults(rounds=2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            TOML.replace("rounds", "ronds"),
            r"unknown key defaults\.ronds \(did you mean rounds\?\); allowed here: rule, rounds",
        ),
        (
            TOML.replace("protocol", "protcol"),
            r"unknown key protcol \(did you mean protocol\?\); allowed here: description",
        ),
        (
            TOML + 'modle = "x"',
            r"unknown key agents\[3\]\.modle \(did you mean model\?\); allowed here: id, role, model",
        ),
        (
            TOML + 'role = "critik"',
            r"toml: agents\[3\]\.role: Input should be 'debater'[^;]*given: 'critik'\) \(did you mean critic\?\)$",
        ),
        (TOML + "weight = 0", r"agents\[3\]\.weight: .*greater than or equal to 1 \(given: 0\)"),
        (TOML.replace("rounds = 2", "rounds = 51"), r"defaults\.rounds: .*less than or equal to 50 \(given: 51\)"),
        (TOML.replace("rounds = 2", 'rule = "majorty"'), r"crew\.toml: defaults\.rule: .*majorty"),
        (TOML.replace("rounds = 2", 'stop = "when done"'), r"crew\.toml: defaults\.stop: .*when done"),
        (TOML.replace("rounds = 2", 'topology = "star"'), r"crew\.toml: defaults\.topology: .*star"),
        (TOML.replace("rounds = 2", 'fallback = ["jugde"]'), r"defaults\.fallback\[1\]: .*'judge'.*given: 'jugde'"),
        (TOML.replace('id = "one"', 'role = "critic"'), r"agents\[1\]\.id is missing"),
        (TOML.replace('"two"', '"one"'), "2 agents have the id 'one'; every agent needs its own"),
        (TOML.replace('"one"', '"../x"'), r"agents\[1\]\.id: "),
        ("protocol = 'answer'", "agents is missing"),
        ("protocol = ", "not valid TOML"),
        (TOML + 'persona = "a"\npersona_file = "b.md"', "agent 'three' has both persona and persona_file"),
        (TOML + 'persona_file = "b.md"', r"b\.md: cannot be read"),
        (TOML + 'persona_file = "../b.md"', r"'\.\./b\.md' leaves the folder"),
        (TOML + 'persona_file = "/etc/hostname"', "leaves the folder"),
        ("agents = [" + ",".join(f'{{id = "x{i}"}}' for i in range(27)) + "]", "agents: .*at most 26"),
    ],
)
def test_a_mistake_in_a_crew_file_names_file_key_and_fix(tmp_path: Path, text: str, says: str) -> None:
    """Catches a typo that is ignored, or reported without saying where."""
    with pytest.raises(ConfigError, match=says) as caught:
        load_crew(write(tmp_path / "c", text))
    assert str(tmp_path / "c") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("critc.md", r"critc\.md: nothing uses this file \(did you mean critic\?\)"),
        ("stages/discus.md", r"discus\.md: no stage has this name \(did you mean discuss\?\)"),
    ],
)
def test_a_prompt_file_that_nothing_reads_is_refused(tmp_path: Path, name: str, says: str) -> None:
    """Catches an override with a typo in its name, which would leave the shipped text in place unnoticed."""
    folder = write(tmp_path / "c")
    (folder / "stages").mkdir()
    (folder / name).write_text("text")
    with pytest.raises(ConfigError, match=says):
        load_crew(folder)


def test_an_unknown_crew_lists_the_known_ones(tmp_path: Path) -> None:
    """Catches a bare file-not-found."""
    with pytest.raises(
        ConfigError, match=r"unknown crew 'reviw' \(did you mean review\?\); there are analysers.*folder with"
    ):
        load_crew("reviw")
    with pytest.raises(ConfigError, match=r"no crew\.toml in this folder"):
        load_crew(tmp_path)


def test_a_crew_of_ones_own_speaks_its_own_words(tmp_path: Path) -> None:
    """Catches a folder whose texts are checked but not used."""
    folder = write(tmp_path / "mine", TOML + 'persona_file = "focus.md"')
    (folder / "focus.md").write_text("Look at costs.")
    (folder / "debater.md").write_text("Argue about money.")
    (folder / "README.md").write_text("Ours.")
    crew = load_crew(str(folder))
    assert crew.name == "mine"
    assert crew.agents[2].persona == "Look at costs."
    prompts = crew.prompts()
    assert "Argue about money." in prompts.render_seat("A", "debater")
    assert "mine/debater.md" in prompts.files
    assert crew.prompts("review").protocol == "review"


def test_a_pipe_in_a_crews_folder_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    (tmp_path / "crew.toml").write_text('[[agents]]\nid = "a"\npersona_file = "p.md"\n')
    os.mkfifo(tmp_path / "p.md")
    with pytest.raises(ConfigError, match="no regular file"):
        load_crew(tmp_path)
