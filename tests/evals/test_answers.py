"""Reading answers out of replies: texts made up in the styles models write in, and what must not be read from them."""

from __future__ import annotations

import pytest

from madflow.evals.answers import read_answer

OPTIONS = [("A", "a copper wire"), ("B", "a glass rod"), ("C", "a wooden spoon"), ("D", "an iron nail")]

STATED = [
    ("The answer is (C).", "C"),
    ("**Answer: C**", "C"),
    ("Glass insulates.\n\nB", "B"),
    ("So only metal is left. (A)", "A"),
    ("\\boxed{D}", "D"),
    ("Thus $\\boxed{\\text{(D)}}$", "D"),
    ("(X) D. an iron nail", "D"),
    ("The correct answer is:\n\n(X) (B) a glass rod", "B"),
    ("Therefore, the correct answer is a wooden spoon.", "C"),
    ("First I thought the answer is (A). On second thought, the answer is (B).", "B"),
    ("(A) is wrong since it conducts. Option C is the most suitable choice.", "C"),
    ('{"answer": "C", "confidence": 0.8}', "C"),
    ('{"answer": "C", "reasoning": "Wood does not cond', "C"),
    ('```json\n{"reasoning": "…", "answer": "(B) a glass rod"}\n```', "B"),
    ("C) a wooden spoon, because wood burns.\n\nStep 1: wood is organic.", "C"),
]

UNSTATED = [
    "A good question! I would need to know more.",
    "The answer is (A) or (B).",
    "I cannot answer this.",
    "Both (A) and (D) conduct.",
    "Let us look at each option. (A) conducts, (B) does not, and so the ans",
    "",
    "The answer is not (A).",
    '{"reasoning": "Let us weigh (A) against',
    '{"answer": "none of these"}',
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_what_a_text_states(text: str, answer: str) -> None:
    """Catches a way of stating an answer that goes unread, or is read as another."""
    assert read_answer(text, OPTIONS).answer == answer


@pytest.mark.parametrize("text", UNSTATED)
def test_nothing_is_invented(text: str) -> None:
    """Catches a letter that nobody meant as an answer."""
    assert read_answer(text, OPTIONS).answer is None
