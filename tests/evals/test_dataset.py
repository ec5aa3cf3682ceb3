"""A user's own questions: the usual shapes are read, and what could mean two things is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from madflow.errors import ConfigError
from madflow.evals import dataset
from madflow.evals.dataset import Question, load_questions

OPTIONS = (("A", "red"), ("B", "green"), ("C", "blue"))
Q = {"question": "Which?"}


def saved(folder: Path, name: str, content: str | bytes | list[Any]) -> Path:
    path = folder / name
    if isinstance(content, list):
        content = "\n".join(json.dumps(row) for row in content)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "How many?", "answer": "3 + 4 = 7\n#### 1,007"}, Question("q-1", "How many?", (), "1007")),
        ({"problem": "Area?", "solution": r"So $\boxed{\frac{3}{4}}$."}, Question("q-1", "Area?", (), "0.75")),
        ({**Q, "choices": ["red", "green", "blue"], "answer": 1}, Question("q-1", "Which?", OPTIONS, "B")),
        ({**Q, "options": ["red", "green", "blue"], "gold": "(c)"}, Question("q-1", "Which?", OPTIONS, "C")),
        ({**Q, "options": ["red", "green", "blue"], "target": "green"}, Question("q-1", "Which?", OPTIONS, "B")),
        (
            {**Q, "options": {"A": "red", "B": "green", "C": "blue"}, "label": "A"},
            Question("q-1", "Which?", OPTIONS, "A"),
        ),
        (
            {**Q, "choices": {"text": ["red", "green", "blue"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            Question("q-1", "Which?", OPTIONS, "B"),
        ),
        ({**Q, "opa": "red", "opb": "green", "opc": "blue", "cop": 2}, Question("q-1", "Which?", OPTIONS, "C")),
        ({"id": 7, "Prompt": " Why? "}, Question("7", "Why?", (), None)),
    ],
)
def test_usual_shapes(tmp_path: Path, row: dict[str, Any], expected: Question) -> None:
    """Catches a field that is not found by its usual name, an index counted from 1, gold that keeps its working."""
    assert load_questions(saved(tmp_path, "q.jsonl", [row])) == [expected]


def test_the_right_option_does_not_stand_first(tmp_path: Path) -> None:
    """Catches TruthfulQA's order being kept: "always A" would be right; and an order that changes between runs."""
    rows = [
        {"question": f"Is {n} odd?", "mc1_targets": {"choices": ["right", "a", "b", "c"], "labels": [1, 0, 0, 0]}}
        for n in range(40)
    ]
    found = load_questions(saved(tmp_path, "q.jsonl", rows))
    assert all(dict(one.options)[str(one.gold)] == "right" for one in found)
    letters = [one.gold for one in found]
    assert {letter: letters.count(letter) for letter in "ABCD"} == {"A": 8, "B": 11, "C": 10, "D": 11}
    table = "Question,Best Answer,Incorrect Answers\nIs 0 odd?,right,a; b; c\n"
    assert load_questions(saved(tmp_path, "t.csv", table))[0].options == found[0].options


def test_tables(tmp_path: Path) -> None:
    """Catches a byte-order mark in the first name, CRLF, blank lines, quoted commas and MMLU's missing header."""
    named = '\ufeffid,Question,A,B,C,Answer\r\n\r\nx1,"Which, then?",red,green,blue,B\r\nx2,Two?,yes,no,,A\r\n'
    first, second = load_questions(saved(tmp_path, "named.csv.gz", named))
    assert first == Question("x1", "Which, then?", OPTIONS, "B")
    assert second == Question("x2", "Two?", (("A", "yes"), ("B", "no")), "A")
    bare = load_questions(saved(tmp_path, "mmlu.csv", "Which?,red,green,blue,C\nWhat?,1,2,3,A\n"))
    assert [one.gold for one in bare] == ["C", "A"]
    assert bare[0].options == OPTIONS
    assert load_questions(saved(tmp_path, "t.tsv", "prompt\tanswer\nHow many?\t$1,200.00\n"))[0].gold == "1200"


REFUSED = [
    ("q.jsonl", [{"text": "?"}], r"q\.jsonl:1 field question: found None; .* prompt, input"),
    ("q.jsonl", [{**Q, "options": ["red"]}], "field options: 1 options; there are 2 to 26"),
    ("q.jsonl", [{**Q, "options": ["red", "green"], "answer": 2}], "field answer: found 2, it names none of A, B"),
    ("q.jsonl", [{**Q, "options": ["1", "0"], "answer": "1"}], "it could be A or B; write the right option's letter"),
    ("q.jsonl", [{**Q, "options": ["red", "green"], "gold": ["A"]}], "field gold: found"),
    ("q.jsonl", [{**Q, "id": 1}, {**Q, "id": "1"}], r"q\.jsonl:2 has the id '1' of line 1"),
    ("q.jsonl", [{**Q, "A": "red", "C": "blue"}], "field B: empty; .* without a hole"),
    ("q.jsonl", [{**Q, "mc1_targets": {"choices": ["a", "b"], "labels": [1, 1]}}], "2 right among 2 choices"),
    ("q.jsonl", [{**Q, "answer": "x" * 500}], "end it in '#### ANSWER'"),
    ("q.jsonl", "{", r"q\.jsonl:1 cannot be read"),
    ("q.jsonl", "", "holds no questions"),
    ("q.csv", "question,answer\nWhy?\n", r"q\.csv:2 has 1 cells, the first line 2"),
    ("q.csv", "text,reply\nWhy?,So.\n", r"q\.csv:1 names no column for the question"),
    ("q.csv", "question,options\nWhy?,red|green\n", "field options: found 'red|green'; write a JSON array"),
    ("q.csv", b"question\nWh\xe9?\n", r"q\.csv:\d cannot be read .* UTF-8"),
    ("q.csv", 'question\n"Why?\n', r"q\.csv:\d+ cannot be read"),
    ("q.xlsx", "?", "neither .jsonl nor .csv nor .tsv"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_what_is_uncertain_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    """Catches a guess: a wrong right answer would make every figure wrong, silently."""
    with pytest.raises(ConfigError, match=message):
        load_questions(saved(tmp_path, name, content))


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file that fills the memory, and a name that is no file."""
    with pytest.raises(ConfigError, match="no file"):
        load_questions(tmp_path)
    path = saved(tmp_path, "q.jsonl", [{**Q, "id": n} for n in range(3)])
    monkeypatch.setattr(dataset, "QUESTIONS_MAX", 2)
    with pytest.raises(ConfigError, match="more than 2 questions"):
        load_questions(path)
    monkeypatch.setattr(dataset, "QUESTION_CHARS_MAX", 3)
    with pytest.raises(ConfigError, match="6 characters; the limit is 3"):
        load_questions(path)


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    """Catches a traceback, or no questions, for a copy that broke off before its first byte."""
    for name in ("a.csv.gz", "a.jsonl.gz"):
        (tmp_path / name).touch()
        with pytest.raises(ConfigError, match=rf"^{name}:1 cannot be read \(0 bytes are no gzip archive\)"):
            load_questions(tmp_path / name)
