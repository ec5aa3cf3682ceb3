"""As many seats as a row may have are as many as every arm takes; one more is refused as the row is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from madflow.errors import ConfigError
from madflow.evals.arms import ARMS, run_arm
from madflow.evals.load import load_recorded
from madflow.evals.schema import SEATS_MAX


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
