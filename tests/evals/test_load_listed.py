"""Options that stand in the question's own text."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest

from madflow.evals.listed import listed_options
from madflow.evals.load import load_recorded

WORDS = ("red", "green", "blue")


@pytest.mark.parametrize(
    "text",
    [
        "Which?\n(A) red\n(B) green\n(C) blue",
        "Which?: A) red, B) green, C) blue",
        "Which?\nA. red\nB. green\nC. blue\n",
        "Which?\nA: red, B: green, C: blue",
        "Is it A) this or B) that?\n(A) red\n(B) green\n(C) blue",
        "Given (A) and (B) above, which? (A) red, (B) green, (C) blue",
        "Given (A) and (B) above, which?\n(A) red\n(B) green\n(C) blue",
        "Which of these? (A) red, (B) green, (C) blue",
    ],
)
def test_lists(text: str) -> None:
    """Catches a style of listing that goes unseen, a list inside the question that is taken for the options."""
    assert listed_options(text) == tuple(zip("ABC", WORDS, strict=True))


@pytest.mark.parametrize("text", ["", "How many?", "Plan A. It fails.", "(B) first, (A) then", "A) only one"])
def test_no_list(text: str) -> None:
    """Catches a lone letter that makes an open question a choice."""
    assert listed_options(text) == ()


@pytest.mark.parametrize(
    ("answers", "options"),
    [(["A", "C"], 3), ([None, None], 3), (["12", "15"], 0)],
)
def test_what_was_answered_decides(tmp_path: Path, answers: list[str | None], options: int) -> None:
    """Catches a list in a question that was answered by numbers becoming its options."""
    agents = [{"id": str(n), "rounds": ["…"], "answers": [answer]} for n, answer in enumerate(answers)]
    row = {"question": "Which?\n(A) red\n(B) green\n(C) blue", "agents": agents}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    assert load_recorded(tmp_path)[0].recording.debated.options == options


class Counted(str):
    """A text that counts how many characters are copied out of it."""

    copied = 0

    def __getitem__(self, part: Any) -> str:
        found = super().__getitem__(part)
        self.copied += len(found)
        return found


@pytest.mark.parametrize("marker", ["(Q) ", "Q) ", "Q. ", "Q: ", "\n (A) "])
def test_a_long_question_is_looked_at_once(marker: str) -> None:
    """Catches work that grows with the square of the text: all that stands before a marker, copied for each marker."""
    question = Counted("Which? " + marker * 2_000)
    listed_options(question)
    assert question.copied <= 2 * len(question)


def test_markers_behind_the_last_letter_are_no_options() -> None:
    """Catches a list of all 26 letters, and one more marker, that ends the program."""
    text = "Which?\n" + "".join(f"{letter}. {letter.lower()}\n" for letter in ascii_uppercase)
    assert len(listed_options(text)) == 26
    assert len(listed_options(text + "Q. q\n")) == 26
