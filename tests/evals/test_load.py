"""Recorded debates from files: what is read, what is refused, and that names and order change nothing but names."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from madflow.core.policies import Debated
from madflow.errors import ConfigError
from madflow.evals import load
from madflow.evals.load import load_recorded, stripped


def debate(number: int, words: list[list[str | None]], **more: Any) -> dict[str, Any]:
    """A row of three agents; `words`: what each said, round by round."""
    return {
        "task_id": f"task-{number}",
        "dataset": "made",
        "question": f"Which is it in case {number}?",
        "options": ["red", "green", "blue"],
        "gold": "B",
        "condition": "adversary",
        "run": "panel-1",
        "agents": [
            {"id": f"a{seat}", "adversary": seat == 2, "rounds": rounds, "prompt_chars": [10 + seat] * len(rounds)}
            for seat, rounds in enumerate(words)
        ],
        **more,
    }


ROWS = [
    debate(1, [["It is (A).", "The answer is (B)."], ["(B)", "(B)"], ["Answer: C", "Answer: C"]]),
    debate(2, [["(B)", None], ["I cannot tell.", "(A)"], ["(C)", "(C)"]]),
    debate(3, [["The answer is green.", "(A)"], ["(A)", "(A)"], ["(B)", "(B)"]]),
]


def written(folder: Path, name: str, rows: list[Any]) -> Path:
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def test_a_row_becomes_a_recording(tmp_path: Path) -> None:
    """Catches a reply in the wrong round or seat, an unread vote that becomes one, a lost prompt length or flag."""
    row = load_recorded(written(tmp_path, "made.jsonl.gz", ROWS[:2]))[1]
    named = {agent: seat for seat, agent in row.agents.items()}
    one = row.recording
    assert one.debated.votes(1) == {named["a0"]: "B", named["a2"]: "C"}
    assert one.debated.votes(2) == {named["a1"]: "A", named["a2"]: "C"}
    assert [len(spoken) for spoken in one.debated.rounds] == [3, 2]
    assert (one.gold, one.condition, one.adversaries) == ("B", "adversary", {named["a2"]})
    assert one.prompt_chars[1, named["a1"]] == 11
    assert (2, named["a0"]) not in one.prompt_chars
    assert (row.file, row.line, one.key, one.run) == ("made.jsonl.gz", 2, "made.jsonl.gz:2", "made.jsonl.gz/panel-1")
    assert row.options == (("A", "red"), ("B", "green"), ("C", "blue"))


def renamed(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same debates: rows shuffled, seats permuted alike in all, everything that has a name called otherwise."""
    chance = random.Random(seed)
    places = chance.sample(range(3), 3)
    out = []
    for number, row in enumerate(rows):
        agents = [{**row["agents"][place], "id": f"z{seat}"} for seat, place in enumerate(places)]
        out.append({**row, "agents": agents, "run": "other", "task_id": f"t{seed}-{number}"})
    chance.shuffle(out)
    return out


@pytest.mark.parametrize("seed", range(8))
def test_names_and_order_change_nothing(tmp_path: Path, seed: int) -> None:
    """Catches a seat named by its place or id, an order drawn from a name, and gold or flags that are read."""
    before = load_recorded(written(tmp_path, "one.jsonl", ROWS))
    after = load_recorded(written(tmp_path, "two.jsonl", stripped(renamed(ROWS, seed))))
    seen: dict[str, Debated] = {row.fingerprint: row.recording.debated for row in before}
    assert seen == {row.fingerprint: row.recording.debated for row in after}
    assert len(seen) == 3
    assert all(row.recording.gold is None and not row.recording.adversaries for row in after)
    questions = {row.fingerprint: row.recording.question for row in before}
    assert questions == {row.fingerprint: row.recording.question for row in after}


def test_rows_that_are_alike_keep_apart(tmp_path: Path) -> None:
    """Catches two debates under one fingerprint: the graph would take the second for the first."""
    rows = load_recorded(written(tmp_path, "twice.jsonl", [ROWS[0], ROWS[0]]))
    assert len({row.fingerprint for row in rows}) == 2
    assert len({row.recording.question for row in rows}) == 1


def test_recorded_answers_count_where_they_name_an_option(tmp_path: Path) -> None:
    """Catches a recorded letter that is no option becoming a vote, and a recorded answer that is ignored."""
    row = debate(1, [["The answer is (A)."], ["The answer is (A)."], ["The answer is (A)."]])
    for agent, answer in zip(row["agents"], ["b", "Z", None], strict=True):
        agent["answers"] = [answer]
    loaded = load_recorded(written(tmp_path, "made.jsonl", [row]))[0]
    votes = {loaded.agents[seat]: answer for seat, answer in loaded.recording.debated.votes(1).items()}
    assert votes == {"a0": "B", "a1": "A", "a2": "A"}


def test_votes_alone(tmp_path: Path) -> None:
    """Catches a model's vote that goes to another model, and a missing vote that counts."""
    rows = [
        {"models": ["m1", "m2", "m3"], "note": "votes only"},
        {"task_id": "1", "dataset": "made", "gold": "J", "n_options": 10, "votes": ["J", "A", None]},
    ]
    row = load_recorded(written(tmp_path, "votes.jsonl", rows))[0]
    votes = {row.agents[seat]: answer for seat, answer in row.recording.debated.votes(1).items()}
    assert votes == {"m1": "J", "m2": "A"}
    assert (row.recording.debated.options, len(row.recording.debated.seats), row.recording.gold) == (10, 3, "J")


def test_numbers_that_are_equal_are_one_answer(tmp_path: Path) -> None:
    """Catches a vote split between two spellings of a number, and gold that is spelt in a third way."""
    agents = [
        {"id": str(n), "rounds": ["…"], "answers": [said]} for n, said in enumerate(["1,500", "1500.0", "1.5e+03"])
    ]
    row = {"task_id": "1", "question": "How much?", "gold": "$1500", "agents": agents}
    loaded = load_recorded(written(tmp_path, "open.jsonl", [row]))[0]
    assert set(loaded.recording.debated.votes(1).values()) == {"1500"} == {loaded.recording.gold}
    assert loaded.recording.debated.options == 0


OPEN = [
    ("So a bag of the 8 holds 12 nuts.", "8", "12"),
    ("So a bag holds 12.344 nuts.", "12.34", "12.34"),
    ("So a bag holds 12.344 nuts.", "12.35", "12.344"),
    ("So a bag holds 12.344 nuts.", "12", "12.344"),
    ("I have counted them.", "8", "8"),
    ("Therefore, there is no solution.", "8", None),
    ("So a bag holds 12 nuts.", None, "12"),
]


@pytest.mark.parametrize(("text", "recorded", "answer"), OPEN)
def test_an_open_answer_is_what_the_text_concludes(
    tmp_path: Path, text: str, recorded: str | None, answer: str | None
) -> None:
    """Catches the number a publisher's pattern found, a rounding that splits votes, an answer that is denied."""
    agent = {"id": "a", "rounds": [text], "answers": [recorded]}
    row = {
        "question": "Eight bags hold the nuts, 8 in all. How many nuts are in a bag?",
        "gold": "12",
        "agents": [agent],
    }
    (said,) = load_recorded(written(tmp_path, "open.jsonl", [row]))[0].recording.debated.rounds[0]
    assert said.answer == answer


def test_boxed_numbers_are_no_formulas(tmp_path: Path) -> None:
    """Catches a row of numbers read as formulas because one of its texts has a box: the others lose their pairs."""
    texts = ["\\boxed{3; 5}", "So one bag holds 3 nuts and the other bag 5 nuts."]
    agents = [{"id": str(n), "rounds": [text], "answers": ["3; 5"]} for n, text in enumerate(texts)]
    row = {"question": "How many nuts are in each bag?", "agents": agents}
    loaded = load_recorded(written(tmp_path, "open.jsonl", [row]))[0]
    assert loaded.kind == "numbers"
    assert set(loaded.recording.debated.votes(1).values()) == {"3;5"}


REFUSED = [
    (["{"], "bad.jsonl:1"),
    ([{"task_id": "1"}], "bad.jsonl:1 field agents: missing"),
    (
        [{"agents": [{"rounds": ["x"]}, {"id": 1, "rounds": [3]}]}],
        r"bad.jsonl:1 field agents\[1\] field rounds: found '3'",
    ),
    ([{"agents": [{"id": "a", "rounds": []}, {"id": "a", "rounds": []}]}], "2 are called a; give each its own id"),
    ([{"agents": [{"id": "a", "rounds": ["x"] * 65}]}], "65 rounds; the limit is 64"),
    ([{"agents": [{"id": "a", "rounds": ["x"]}], "options": ["one"]}], "field options: .* 2 to 26"),
    ([{"agents": [{"id": "a", "rounds": ["x"]}], "options": ["one", "two"], "gold": "C"}], "names no option"),
    ([{"models": ["m"]}, {"votes": ["A", "B"]}], "bad.jsonl:2 field votes: 2 votes"),
    ([{"agents": [{"id": "a", "rounds": ["x"], "prompt_chars": [-1]}]}], "field prompt_chars: found '-1'"),
    ([[1, 2]], "no JSON object"),
]


@pytest.mark.parametrize(("rows", "message"), REFUSED)
def test_what_does_not_fit_is_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    """Catches a bad row that is skipped, or an error that leaves one searching."""
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    with pytest.raises(ConfigError, match=message):
        load_recorded(path)


def test_bounds_and_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a line that fills the memory, a cut archive taken for a short one, and an empty folder taken for done."""
    with pytest.raises(ConfigError, match="no file or folder"):
        load_recorded(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no \*\.jsonl"):
        load_recorded(tmp_path)
    whole = written(tmp_path, "cut.jsonl.gz", ROWS)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"cut\.jsonl\.gz:\d cannot be read"):
        load_recorded(whole)
    monkeypatch.setattr(load, "LINE_BYTES_MAX", 50)
    with pytest.raises(ConfigError, match="longer than 50 bytes"):
        load_recorded(written(tmp_path, "long.jsonl", ROWS))
