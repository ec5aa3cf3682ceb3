"""As much as a row may hold is as much as every arm takes, and as little; more is refused as the row is read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from madflow.errors import ConfigError
from madflow.evals.arms import ARMS, run_arm
from madflow.evals.load import load_recorded
from madflow.evals.schema import PROMPT_CHARS_MAX, ROUNDS_MAX, SEATS_MAX


def panel(seats: int) -> dict[str, Any]:
    """A question that splits a panel in two, so that whoever asks until it is settled asks everybody."""
    agents = [{"id": f"a{n}", "rounds": [f"The answer is ({'AB'[n % 2]})"] * 2} for n in range(seats)]
    return {"question": "Which?", "options": ["one", "other"], "agents": agents}


def written(path: Path, row: dict[str, Any]) -> Path:
    path.write_text(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize(("arm", "seats"), [("judge", SEATS_MAX), ("robust", SEATS_MAX), ("adaptive", 80)])
def test_an_arm_takes_as_many_seats_as_a_row_may_have(arm: str, seats: int, tmp_path: Path) -> None:
    """Catches: rows that load and then fail: no room for the judge, too many steps for one seat at a time."""
    rows = load_recorded(written(tmp_path / "x.jsonl", panel(seats)))
    (made,) = run_arm(ARMS[arm], rows)
    assert made.stop_reason != "failed" and 1 <= made.calls <= 2 * seats + 1
    if arm == "adaptive":
        assert made.calls > 60


def test_one_seat_more_is_refused_with_its_line(tmp_path: Path) -> None:
    """Catches: a limit that is found when all is read, and a message without file, line, value or limit."""
    path = written(tmp_path / "x.jsonl", panel(SEATS_MAX + 1))
    with pytest.raises(ConfigError) as caught:
        load_recorded(path)
    said = f"x.jsonl:1 field agents: {SEATS_MAX + 1} seats; there are 1 to {SEATS_MAX}; leave some out"
    assert str(caught.value).startswith(said)
    votes = {"models": [f"m{n}" for n in range(SEATS_MAX + 1)]}
    path.write_text(json.dumps(votes) + "\n" + json.dumps({"votes": ["A"] * (SEATS_MAX + 1)}) + "\n")
    with pytest.raises(ConfigError, match=rf"^x\.jsonl:2 field votes: {SEATS_MAX + 1} seats"):
        load_recorded(path)
    with pytest.raises(ConfigError, match=r"^x\.jsonl:1 field agents: 0 seats"):
        load_recorded(written(path, {"agents": []}))


def test_two_seats_of_one_name_are_told_by_it(tmp_path: Path) -> None:
    """Catches: a message that shows how seats are told apart inside, and not which two are alike."""
    row = panel(3)
    row["agents"][2].update(id="a0", model="m")
    row["agents"][0]["model"] = "m"
    with pytest.raises(ConfigError, match=r"^x\.jsonl:1 field agents: 2 are called a0 of model m; give each its own"):
        load_recorded(written(tmp_path / "x.jsonl", row))


@pytest.mark.parametrize("arm", ARMS)
def test_a_row_in_which_nothing_was_said_is_an_abstention_under_every_arm(arm: str, tmp_path: Path) -> None:
    """Catches: a row that loads, and then fails the run because no round was held."""
    row = panel(3)
    for agent in row["agents"]:
        agent["rounds"] = [None, None]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(panel(3)) + "\n")
    silent, told = run_arm(ARMS[arm], load_recorded(path))
    assert (silent.tied, silent.abstained, silent.decided, silent.calls, silent.tokens) == ((), True, False, 0, 0)
    assert told.tied


@pytest.mark.parametrize(
    ("arm", "word", "chars"),
    [("judge", "word ", 3_000_000), *itertools.product(["judge", "rule", "vote"], ["word ", "\0", "𝄞"], [50_000])],
)
def test_a_reply_longer_than_a_debate_takes_counts_all_the_same(
    arm: str, word: str, chars: int, tmp_path: Path
) -> None:
    """Catches: a budget below what a row may hold, and an answer lost since the text beside it is too long, so that an
    arm says less than the recording."""
    row = panel(3)
    for agent in row["agents"]:
        agent["rounds"] = [word * (chars // len(word)) + said for said in agent["rounds"]]
    row["agents"][0]["rounds"][1] += " or rather: the answer is (B)"
    row["agents"][2]["rounds"] = ["The answer is (A)", "The answer is (B)"]
    rows = load_recorded(written(tmp_path / "x.jsonl", row))
    answers = [[said.answer for said in spoken] for spoken in rows[0].recording.debated.rounds]
    assert sorted(map(str, answers[0])) == ["A", "A", "B"] and answers[1] == ["B", "B", "B"]
    (made,) = run_arm(ARMS[arm], rows)
    assert (made.tied, made.decided, made.calls) == (("B",) if arm == "judge" else ("A",), True, 3 + (arm == "judge"))


def test_the_longest_prompts_fit_the_budget_of_their_debate(tmp_path: Path) -> None:
    """Catches: a limit of a prompt, and a cap of a debate, of which one was changed without the other."""
    row = panel(SEATS_MAX)
    for agent in row["agents"]:
        agent["prompt_chars"] = [PROMPT_CHARS_MAX] * 2
    (made,) = run_arm(ARMS["debate"], load_recorded(written(tmp_path / "x.jsonl", row)))
    assert (made.calls, made.rounds) == (2 * SEATS_MAX, 2)
    assert 2 * SEATS_MAX * ROUNDS_MAX * PROMPT_CHARS_MAX // 4 < 10**12


def test_a_prompt_beyond_all_measure_is_refused_with_its_line(tmp_path: Path) -> None:
    """Catches: a length that no budget holds, so that seats stay silent under some arms."""
    row = panel(2)
    row["agents"][1]["prompt_chars"] = [PROMPT_CHARS_MAX, None]
    assert len(load_recorded(written(tmp_path / "x.jsonl", row))) == 1
    row["agents"][1]["prompt_chars"] = [1, PROMPT_CHARS_MAX + 1]
    with pytest.raises(ConfigError) as caught:
        load_recorded(written(tmp_path / "x.jsonl", row))
    said = f"field prompt_chars: found {PROMPT_CHARS_MAX + 1}, the limit is {PROMPT_CHARS_MAX} characters a prompt; fix"
    assert str(caught.value).startswith("x.jsonl:1 ") and said in str(caught.value)
