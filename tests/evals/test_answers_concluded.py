"""Numbers that worked solutions conclude with: tables of texts with their questions, and hostile ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madflow.evals.answers import normal_answer, read_answer

BRINE = "How many litres of 4% brine and of 16% brine make 24 litres of 7% brine?"
SHELF = "A shelf holds 90 books. There are twice as many novels as atlases. How many novels are there?"
PENS = "Ada buys 6 pens for $4.50. What does one pen cost?"
PAIR = "The sum of two numbers is 31 and their difference is 7. Find the numbers."

ONE = [
    # what the question gives is what the answer is about
    (SHELF, "So there are 60 novels among the 90 books.", "60"),
    (PENS, "Ada pays $0.75 for each of the 6 pens.", "0.75"),
    ("It had ninety-six beads; how many in four equal rows?", "That makes 24 beads in each of the 4 rows of 96.", "24"),
    # ... unless nothing else is stated
    ("Tom has 9 nuts and eats 4. How many nuts are left?", "9 - 4 = 5, so Tom still has 5.", "5"),
    ("Ann has 8 figs and gives 4 away. How many has she left?", "So Ann has 4 figs left.", "4"),
    ("Ann has 8 figs and 4 bags. How many figs are in a bag?", "So the 8 figs fill bags of 4 figs.", "4"),
    # the right end of a chain, not its operands
    (SHELF, "90 / 3 = 30\n2 x 30 = 60", "60"),
    (SHELF, "n = 2(30) = 60", "60"),
    (PENS, "6 pens cost $4.50, so one costs $4.50 / 6 = $0.75", "0.75"),
    ("What is the area of the yard?", "12 feet x 20 feet = 240 square feet", "240"),
    # an equation still to be solved states nothing
    (SHELF, "There are 60 novels.\nThis fits the equation a + 2a = 91", "60"),
    # one amount said twice
    (PENS, "Therefore one pen costs 0.75 dollars or 75 cents.", "0.75"),
    # the clause that speaks of what is asked
    (SHELF, "So there are 30 atlases and 60 novels.", "60"),
    (SHELF, "So there are 60 novels and 30 atlases.", "60"),
    # asides, announcements, checks and explanations
    (SHELF, "There are 60 novels (and 30 atlases).", "60"),
    (SHELF, "So there are (beside 30 atlases) 60 novels.", "60"),
    (SHELF, "Novels on shelf 5, counted twice: 60", "60"),
    (SHELF, "So there are 60 novels.\nCheck: 60 + 30 = 90.\n30 is half of 60, and 45 is not.", "60"),
    (SHELF, "There are 60 novels.\nTo get this, we split the shelf in 3 parts of 30 books.", "60"),
    # spellings
    ("How many are sixteen and nineteen?", "There are thirty-five of them.", "35"),
    ("What is the 5th multiple of 7?", "It was therefore the 35th number.", "35"),
    ("What share is 40 of 240?", "So the share is 40/240, which is 1/6.", "1/6"),
    ("How long is it?", "It is approximately 2.29 m long.", "2.29"),
    ("How much lighter is it?", "It is 10g lighter.", "10"),
    ("What is the change of temperature?", "The change is -3 degrees.", "-3"),
    ("How far is it?", "It is \\(\\frac{3}{4}\\) of a mile.", "0.75"),
    # nothing stated, nothing read
    (SHELF, "We cannot determine the number of novels, since 90 is all that is said.", None),
    (SHELF, "That gives 91 books. Therefore, there is no solution.", None),
    (SHELF, "Let a be the atlases.\na + 2a = 90\n3a =", None),
    (SHELF, "Let a be the atlases, 12 of them.\nThe rest is 90 -\nx = 90 *", None),
    (SHELF, "I would have to see the shelf.", None),
]


@pytest.mark.parametrize(("question", "text", "answer"), ONE)
def test_one_number(question: str, text: str, answer: str | None) -> None:
    """Catches a number of the question, of the working or of a check taken for the answer, and invented ones."""
    assert read_answer(text, question=question).answer == answer


SEVERAL = [
    (BRINE, "Therefore, 18 litres of 4% brine and 6 litres of 16% brine make 24 litres of 7% brine.", "6;18"),
    (BRINE, "So 18 litres of the first are needed.\nThe rest is 24 - 18 = 6.\nSo 6 litres of the second.", "6;18"),
    (BRINE, "x = 18\ny = 24 - x = 6", "6;18"),
    (BRINE, "x = 18\n3x = 54\nTherefore we add 6 litres of the stronger one.", "6;18"),
    (PAIR, "2x = 38\nx = 19\nThe numbers are 19 and 12.", "12;19"),
    (PAIR, "So the larger is 19, and the smaller is x - 7 = 12.", "12;19"),
    (PAIR, "y = 7\nk = 3\nSo one is 7 and the other is 24.", "7;24"),
    ("Two equal jars hold 20 nuts. How many in each?", "So the first has 10 nuts and the second has 10 nuts.", "10"),
    ("Two equal jars hold 20 nuts. How many in each?", "x = 5\nSo this has 10 nuts and that has 10 nuts.", "10"),
    ("What do a pen and a cap cost?", "The pen costs 0.75 dollars or 75 cents, the cap 2 dollars.", "0.75;2"),
    ("Find three consecutive integers with sum 60.", "x = 19\nThe integers are 19, 20, and 21.", "19;20;21"),
    (BRINE, "No litres can be found: there is no solution.", None),
]


@pytest.mark.parametrize(("question", "text", "answer"), SEVERAL)
def test_several_numbers(question: str, text: str, answer: str | None) -> None:
    """Catches a pair read from what the question gives, half a pair, and an unsolved equation's side in it."""
    assert read_answer(text, kind="numbers", question=question).answer == answer


def test_a_box_counts_before_the_sentence() -> None:
    """Catches a marked answer that the words behind it overrule."""
    assert read_answer("So \\boxed{60}, which is 30 more.", question=SHELF).answer == "60"
    assert read_answer("30 + 30\n#### 60\nThat took 5 steps.", question=SHELF).answer == "60"


WORDS = st.sampled_from(
    ["so ", "12 ", "= ", "x ", "+ ", "(", ")", ": ", ". ", "\n", "one-", "twenty ", "2x ", "or ", "$", "check "]
)


@given(
    st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=40).map("".join), st.sampled_from(["number", "numbers"])
)
@settings(max_examples=200)
def test_what_is_read_is_a_normal_form(text: str, kind: str) -> None:
    """Catches a crash on garbage, and numbers that are written again in another way."""
    answer = read_answer(text, kind=kind, question=text[:40]).answer  # type: ignore[arg-type]
    assert answer is None or normal_answer(answer) == answer


@given(st.integers(101, 10**6), st.integers(2, 100))
def test_the_stated_number_is_read_whatever_it_is(stated: int, asked: int) -> None:
    """Catches a reader that sees some numbers only: signs, separators and lengths must not matter."""
    question = f"There are {asked} boxes. How many beads are there?"
    assert read_answer(f"So the {asked} boxes hold {stated:,} beads.", question=question).answer == str(stated)


@pytest.mark.parametrize(
    "piece", ["2 + ", "= ", "1 = ", "x = 1 ", "(", "so 1. ", "one-", "twenty ", "1/", "- ", "<<", ". ", "a"]
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Catches a pattern or a walk that goes back over what it has seen."""
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    read_answer(text, kind="numbers", question=text)
    assert time.process_time() - start < 2
