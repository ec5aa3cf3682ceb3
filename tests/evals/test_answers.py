"""Reading answers out of replies: texts made up in the styles models write in, and what must not be read from them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.errors import ConfigError
from madflow.evals.answers import TEXT_CHARS_MAX, Read, normal_answer, read_answer

OPTIONS = [("A", "a copper wire"), ("B", "a glass rod"), ("C", "a wooden spoon"), ("D", "an iron nail")]

STATED = [
    # a cue and an option
    ("The answer is (C).", "C"),
    ("**Answer: C**", "C"),
    ("Final answer: c", "C"),
    ("\\boxed{D}", "D"),
    ("Thus $\\boxed{\\text{(D)}}$", "D"),
    ("I would go with option B here.", "B"),
    ("My choice remains (D), as iron rusts.", "D"),
    ("Therefore, (A).", "A"),
    ("The most suitable object among those listed is: B. a glass rod", "B"),
    ("So the object that floats is (C) a wooden spoon.", "C"),
    ("I agree with the other agents that the correct answer is:\n\n(B) a glass rod", "B"),
    ("Based on the reasoning of the other agents, the answer is (B).", "B"),
    ("<answer>D</answer>", "D"),
    ("Let us look at the options:\n\nThe answer is D", "D"),
    # the placeholder of the prompt, echoed
    ("(X) D. an iron nail", "D"),
    ("The correct answer is:\n\n(X) (B) a glass rod", "B"),
    ("(X) A) a copper wire is not magnetic.", "A"),
    ("Copper is not magnetic. (X) A", "A"),
    # alone, or behind the last sentence
    ("Glass insulates.\n\nB", "B"),
    ("So only metal is left. (A)", "A"),
    ("(B)\n\nGlass does not conduct, in contrast to (A) and (D).", "B"),
    ("Let me see.\n\n(D) an iron nail", "D"),
    ('"Wood floats.\\n\\n\\\\boxed{C}"', "C"),
    # words for a letter
    ("Therefore, the correct answer is a wooden spoon.", "C"),
    ("(X) an iron nail", "D"),
    ("The answer is: glass rod? No. The answer is a glass rod.", "B"),
    # verdicts
    ("(A) is wrong since it conducts. Option C is the most suitable choice.", "C"),
    ("Iron is attracted, making (D) the correct answer.", "D"),
    ("In short, a wooden spoon (C) is the most plausible of the four.", "C"),
    # corrections
    ("First I thought the answer is (A). On second thought, the answer is (B).", "B"),
    ("The answer is a copper wire. Wait: wood floats. So the answer is a wooden spoon.", "C"),
    ("My initial answer (A) was incorrect. The answer is (D).", "D"),
    ("Agent 1 says that the answer is (A). I believe the answer is (C).", "C"),
    # weighing every option, then stating one
    ("Which one?\n\nA: conducts.\nB: breaks.\nC: burns.\nD: rusts.\n\nThe answer is C.", "C"),
    ("A) a copper wire: no.\nB) a glass rod: no.\nC) a wooden spoon: This is correct.\nD) an iron nail: no.", "C"),
    ("C) a wooden spoon, because wood burns.\n\nStep 1: wood is organic.", "C"),
    ("The object is (B), a glass rod. Unlike it, (A) and (D) conduct.", "B"),
    # fields
    ('{"answer": "C", "confidence": 0.8}', "C"),
    ('{"answer": "C", "reasoning": "Wood does not cond', "C"),
    ('```json\n{"reasoning": "…", "answer": "(B) a glass rod"}\n```', "B"),
    ("{'answer': 'a wooden spoon', 'reasoning': 'it is not (A)'}", "C"),
    ('{"reasoning": "Bad \\escape and "quotes"", "answer": D}', "D"),
    ('{"answer": "A"} On reflection: {"answer": "D"}', "D"),
    ('{"answer": ["B"]}', "B"),
    ('{"answer": "", "reasoning": "The answer is (A)."}', "A"),
]

UNSTATED = [
    "A good question! I would need to know more.",
    "The answer is (A) or (B).",
    "The answer is (A) a copper wire and (D) an iron nail.",
    "Answer: A, D",
    "I cannot answer this.",
    "I think I need more time.",
    "Both (A) and (D) conduct.",
    "Let us look at each option. (A) conducts, (B) does not, and so the ans",
    "Let us look at the options:\n\nA: a copper wire. It conducts.\n\nB: a glass rod. It does not cond",
    "Let us look at the options:\n\n- **A: a copper wire** conducts.\n- **B:",
    "Let us see which answer is right:\n\nA: a copper wire. It conducts.\n\nB: a glass rod. It does not cond",
    "A) a copper wire: This is correct.\nB) a glass rod: no.\nD) an iron nail: This is correct.\nNow",
    "",
    "   \n ",
    "The answer is not (A).",
    "Agent 1 says that the answer is (A).",
    "The answer is A. Then I saw more: the correct answer is none of the above.",
    "(X) None of the above",
    "(X)",
    "Iron (hepatitis B) and vitamin C are good for you.",
    '{"reasoning": "Let us weigh (A) against',
    '{"answer": "none of these"}',
    '{"answer": "E"}',
    '{"answer": "',
    "The answer is (E).",
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_what_a_text_states(text: str, answer: str) -> None:
    """Catches a way of stating an answer that goes unread, or is read as another."""
    assert read_answer(text, OPTIONS).answer == answer


@pytest.mark.parametrize("text", UNSTATED)
def test_nothing_is_invented(text: str) -> None:
    """Catches a letter that nobody meant as an answer."""
    assert read_answer(text, OPTIONS).answer is None


def test_a_lone_letter() -> None:
    """Catches a reply of nothing but a letter going unread, and a word's first letter being read."""
    assert [read_answer(text, 4).answer for text in ("A", "(b).", "D", "E", "Apple", "I")] == ["A", "B", "D"] + [
        None
    ] * 3


def test_the_placeholder_is_a_letter_where_there_is_an_option_x() -> None:
    """Catches "(X)" being skipped as an echo of the prompt where it is the answer."""
    assert read_answer("The answer is (X)", 26).answer == "X"
    assert read_answer("The answer is (X)", 23).answer is None


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ('{"answer": "A", "confidence": 0.8}', 0.8),
        ("The answer is (A). Confidence: 85%", 0.85),
        ("Answer: A\nMy confidence is 7/10", 0.7),
        ('{"answer": "A", "confidence": "90"}', 0.9),
        ("I say so with confidence. The answer is (A).", None),
        ("Confidence: 250. The answer is (A).", None),
    ],
)
def test_stated_confidence(text: str, confidence: float | None) -> None:
    """Catches a percentage taken for a share, and a confidence that nobody stated."""
    assert read_answer(text, 4) == Read("A", read_answer(text, 4).how, confidence)


@pytest.mark.parametrize("options", [1, 27, [("A", "x"), ("A", "y")], [("1", "x"), ("2", "y")]])
def test_options_that_are_none(options: int | list[tuple[str, str]]) -> None:
    """Catches a single option, or one that no letter names, being read as a choice."""
    with pytest.raises(ConfigError, match="2 to 26 options"):
        read_answer("A", options)


FRAGMENTS = st.sampled_from(
    [
        "answer",
        "The ",
        " is ",
        "(A)",
        "B)",
        "C.",
        " D",
        "(X)",
        ":",
        "\n",
        " not ",
        " or ",
        '{"answer": ',
        '"',
        "\\boxed{",
        "}",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=8)), max_size=40).map("".join))
def test_only_options_are_ever_read(text: str) -> None:
    """Catches a crash on garbage, a letter that is no option, and a second reading that differs from the first."""
    read = read_answer(text, OPTIONS[:3])
    assert read.answer in {None, "A", "B", "C"}
    assert read == read_answer(text, OPTIONS[:3])
    assert normal_answer(read_answer(text, kind="expression").answer or "1") is not None


HOSTILE = [
    "(A)",
    "A) ",
    "(X) ",
    "the answer is ",
    '{"answer": ',
    "\\boxed{",
    "{",
    "1,",
    "- A:\n",
    "not ",
    "twenty-",
    "is $",
    " ",
]


@pytest.mark.parametrize("piece", [*HOSTILE, "\\frac{1", "a", '\\"'])
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Catches a pattern that backtracks: such a text would take minutes, and a longer one hours."""
    text = piece * (200_000 // len(piece))
    start = time.process_time()
    read_answer(text, OPTIONS)
    read_answer(text, kind="expression")
    normal_answer(text)
    assert time.process_time() - start < 3


def test_of_a_long_text_the_end_is_read() -> None:
    """Catches a conclusion that is cut off, and reading without bound."""
    assert read_answer("x " * TEXT_CHARS_MAX + "The answer is (B).", OPTIONS).answer == "B"
    assert read_answer("The answer is (B). " + "x " * TEXT_CHARS_MAX, OPTIONS).answer is None


NORMAL = [
    ("1,234", "1234"),
    ("12.0", "12"),
    ("3.1925e+06", "3192500"),
    ("$1,500.50", "1500.5"),
    ("-$5", "-5"),
    ("25%", "25"),
    ("25\\%", "25"),
    ("3/4", "0.75"),
    ("\\frac{3}{4}", "0.75"),
    ("\\dfrac34", "0.75"),
    ("-\\frac{3}{4}", "-0.75"),
    ("64/30", "32/15"),
    ("2\\frac{1}{2}", "2.5"),
    ("7\\text{ cm}", "7"),
    ("10\\;edges", "10"),
    ("108revolutions", "108"),
    ("12 dollars per hour", "12"),
    ("twenty-five", "25"),
    ("two hundred and six apples", "206"),
    ("x = 5", "5"),
    ("90^\\circ", "90"),
    ("3; 1.50", "1.5;3"),
    ("5;5", "5"),
    ("8 - i", "8-i"),
    ("2k", "2k"),
    ("\\left(1, 2\\right)", "(1,2)"),
    ("An Ellipse.", "an ellipse"),
    ("1/0", "1/0"),
    ("", None),
    ("x" * 500, None),
]


@pytest.mark.parametrize(("text", "normal"), NORMAL)
def test_normal_forms(text: str, normal: str | None) -> None:
    """Catches two spellings of one number that stay apart, and a variable or a formula that becomes a number."""
    assert normal_answer(text) == normal


@given(st.one_of(st.text(max_size=30), st.decimals(allow_nan=False, allow_infinity=False).map(str), FRAGMENTS))
@settings(max_examples=200)
def test_a_normal_form_is_its_own(text: str) -> None:
    """Catches a form that changes when it is written again: gold and answers would drift apart."""
    once = normal_answer(text)
    assert once is None or normal_answer(once) == once


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_equal_numbers_are_one(number: int, places: int) -> None:
    """Catches spellings of one number that count as two answers."""
    spelt = {
        f"{number}",
        f"{number:,}",
        f"{number}.{'0' * places}".rstrip("."),
        f"{number}/1",
        f"${number:,}",
        f"{number} apples",
    }
    assert {normal_answer(text) for text in spelt} == {str(number)}


OPEN = [
    ("3 + 4 = 7\n#### 1,007", "number", "1007"),
    ("She has 3 left and gives 2 away.\nA: 41", "number", "41"),
    ("Together they have sixteen oranges.", "number", "16"),
    ("So it costs $12.50. I hope this helps!", "number", "12.5"),
    ("Therefore, we have \\boxed{\\frac{64}{5}}.", "number", "12.8"),
    ("x = 3, and y = 14.\nSo the numbers are 14 and 3.", "numbers", "3;14"),
    ("Thus $y$ is $x^2 + 1$.", "expression", "x^2+1"),
    ("One is $5 each, the other two come to $8.", "expression", "8"),
    ('{"answer": "1,000 km", "confidence": 0.5}', "number", "1000"),
    ("The capital is Paris. The answer is Paris.", "text", "paris"),
    ("There is not enough information.", "number", None),
    ("\n".join(f"Step {n}: \\boxed{{{n}}}" for n in range(80)), "number", "79"),
]


@pytest.mark.parametrize(("text", "kind", "answer"), OPEN)
def test_open_answers(text: str, kind: str, answer: str | None) -> None:
    """Catches a number of the working taken for the result, and a result made up where there is none."""
    assert read_answer(text, kind=kind).answer == answer  # type: ignore[arg-type]
