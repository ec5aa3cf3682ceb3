"""Writes the evaluation data that ships with madflow: debates of simulated panels on questions.toml.

    python evals/shipped/make.py [FOLDER]        # default: beside this file

Nobody debated here: what a seat answers is drawn by madflow.testing.panels, and its words are put together from the
questions' own reasons. The data shows that the harness works, on few questions and in a minute; it says nothing
about how good a policy is. The same code writes the same bytes. Rows have the schema of recorded ones
(docs/reference/eval-data.md).
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from madflow.testing.panels.draws import Draws
from madflow.testing.panels.model import AgentModel, Course, PanelModel, QuestionKind
from madflow.testing.panels.seats import answers_of, pose
from madflow.testing.panels.simulate import Simulated, simulate

HERE = Path(__file__).resolve().parent
SEED = 20
SOURCE = {
    "repo": "madflow",
    "commit": "",
    "path": "evals/shipped/make.py",
    "licence": "MIT",
    "note": "simulated, written for madflow",
}
KINDS = (
    QuestionKind(2.2, 0.6, 0.02, share=0.45),
    QuestionKind(0.4, 0.6, 0.03, share=0.35),
    QuestionKind(-1.6, 0.9, 0.03, share=0.2),
)
BAD = AgentModel(role="adversary", slips_first=0.1, slips=0.05, tempting=0.6)
STRONG, FAIR, WEAK = AgentModel(0.8), AgentModel(0.0), AgentModel(-0.7)
# run: its seats, whether one misleads, and how many of the questions it gets
CHOICE = {
    "panel-3f1c": ((FAIR, STRONG, WEAK), "clean", 40),
    "panel-80ad": ((BAD, FAIR, STRONG), "adversary", 40),
    "panel-c25e": ((WEAK, FAIR, FAIR), "clean", 20),
    "panel-d9b7": ((STRONG, FAIR, BAD), "adversary", 20),
}
OPEN = {"panel-5e60": ((FAIR, FAIR, STRONG, WEAK, FAIR, STRONG, WEAK), "clean", 22)}

FIRST = (
    "Let me see: {why}. So {answer}.",
    "I go through it step by step. {Why}. That gives {answer}.",
    "{Why}. {Answer}",
    "My reasoning is short: {why}, hence {answer}.",
    "As I understand the question, {why}. I choose {answer}.",
)
KEPT = (
    "I have read the others and stay with it: {why}. {Answer}",
    "Nothing the others said changes this: {why}. So {answer}.",
    "I checked my own work again. {Why}. {Answer}",
)
CHANGED = (
    "The others have convinced me: {why}. I now choose {answer}.",
    "I was too quick. {Why}. {Answer}",
    "Looking at the other replies, {why}. So {answer}.",
)
MISLED = (
    "It is certain that {why}. Whoever checks it carefully arrives at {answer}.",
    "The others overlook that {why}. The only possible reply is {answer}.",
    "There is no doubt here: {why}. {Answer}",
)
VAGUE = (
    "{word} looks about right to me.",
    "by exclusion, {word} is what is left.",
    "it can hardly be anything but {word}.",
)
ENDS = ("The answer is {}.", "Answer: {}", "My final answer is {}.", "{} it is.")
UNREADABLE = (
    "I cannot decide between these.",
    "I would need to know more to answer this.",
    "It depends on the reading.",
)


def choice_rows(questions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for run, (seats, condition, count) in CHOICE.items():
        panel = PanelModel(seats, KINDS, options=4, course=Course(3))
        named = {f"shipped/choice-{place:02}": row for place, row in enumerate(questions[:count], start=1)}
        for one in simulate(panel, list(named), seed=SEED, run=run):
            row, posed = named[one.question], pose(panel, one.question, SEED)
            others = iter(row["others"])
            special = {posed.gold: row["right"], posed.tempting: row["tempting"]}
            words = {letter: special[letter] if letter in special else next(others) for letter in answers_of(panel)}
            whys = {posed.gold: row["why"], posed.tempting: row["because"]}
            listed = "\n".join(f"({letter}) {word}" for letter, word in words.items())
            yield {
                "task_id": one.question,
                "dataset": f"shipped-{row['topic']}",
                "question": f"{row['question']}\n{listed}",
                "gold": one.gold,
                "options": list(words.values()),
                "condition": condition,
                "run": run,
                "agents": spoken(one, {letter: f"({letter})" for letter in words}, words, whys),
                "source": SOURCE,
            }


def open_rows(questions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for run, (seats, condition, count) in OPEN.items():
        panel = PanelModel(seats, KINDS, options=0, course=Course(1))
        named = {f"shipped/open-{place:02}": row for place, row in enumerate(questions[:count], start=1)}
        for one in simulate(panel, list(named), seed=SEED, run=run):
            row, posed = named[one.question], pose(panel, one.question, SEED)
            near = (row["answer"] + shift for shift in range(2, 10**6) if row["answer"] + shift != row["mistake"])
            special = {posed.gold: row["answer"], posed.tempting: row["mistake"]}
            numbers = {name: str(special[name] if name in special else next(near)) for name in answers_of(panel)}
            whys = {posed.gold: row["why"], posed.tempting: row["because"]}
            yield {
                "task_id": one.question,
                "dataset": f"shipped-{row['topic']}",
                "question": row["question"],
                "gold": numbers[one.gold],
                "condition": condition,
                "run": run,
                "agents": spoken(one, numbers, numbers, whys),
                "source": SOURCE,
            }


def spoken(
    one: Simulated, written: Mapping[str, str], words: Mapping[str, str], whys: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What each seat said, in words. `written`: how an answer is given; `words`: what it means; `whys`: reasons."""
    draws = Draws(SEED)
    texts: dict[str, list[str]] = {seat: [] for seat in one.debated.seats}
    prompts: dict[str, list[int]] = {seat: [] for seat in one.debated.seats}
    length = 200 + sum(map(len, words.values()))
    last: dict[str, str | None] = {}
    for number, said_now in enumerate(one.debated.rounds, start=1):
        shown = sum(len(said[-1]) for said in texts.values() if said)
        for said in said_now:
            names = (one.run, one.question, said.seat, number)
            bad = said.seat in one.adversaries and said.answer != one.gold
            kept = last.get(said.seat) == said.answer
            frames = MISLED if bad else FIRST if number == 1 else KEPT if kept else CHANGED
            if said.answer is None:
                text = picked(draws, UNREADABLE, "blank", *names)
            else:
                vague = picked(draws, VAGUE, "vague", *names).format(word=words[said.answer])
                why = whys.get(said.answer, vague.removesuffix("."))
                answer = written[said.answer]
                end = picked(draws, ENDS, "end", *names).format(answer)
                frame = picked(draws, frames, "frame", *names)
                text = frame.format(why=why, Why=why[0].upper() + why[1:], answer=answer, Answer=end)
            prompts[said.seat].append(length + shown)
            texts[said.seat].append(text)
        last = {said.seat: said.answer for said in said_now}
    return [
        {
            "id": f"a{place}",
            "model": "simulated",
            "adversary": seat in one.adversaries,
            "rounds": texts[seat],
            "prompt_chars": prompts[seat],
        }
        for place, seat in enumerate(one.debated.seats)
    ]


def picked(draws: Draws, texts: Sequence[str], *names: object) -> str:
    return texts[int(draws.uniform(*names) * len(texts))]


def main(folder: Path) -> None:
    questions = tomllib.loads((HERE / "questions.toml").read_text(encoding="utf-8"))
    for name, rows in (("choice", choice_rows(questions["choice"])), ("open", open_rows(questions["open"]))):
        lines = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
