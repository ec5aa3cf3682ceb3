"""Small recorded debates of our own making, as files: what the tests of the harness run on."""

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LETTERS = "ABCD"


def debate(number: int, chance: random.Random, *, run: str, adversary: bool, rounds: int = 3) -> dict[str, Any]:
    """One multiple-choice debate of three agents: the first is good, the last is bad, or misleads in every round."""
    gold = LETTERS[number % 4]
    wrong = LETTERS[(number + 1) % 4]
    agents = []
    for place, skill in enumerate((0.9, 0.7, 0.4)):
        bad = adversary and place == 2
        said = []
        for at in range(rounds):
            letter = wrong if bad else gold if chance.random() < skill else chance.choice(LETTERS)
            words = " ".join(chance.choice(("steady", "likely", "because", "so")) for _ in range(4 + at))
            said.append(f"In round {at + 1} of case {number} I weigh it: {words}. The answer is ({letter})")
        agents.append(
            {"id": f"agent{place}", "adversary": bad, "rounds": said, "prompt_chars": [100, 400 + place, 700][:rounds]}
        )
    return {
        "task_id": f"t{number}",
        "dataset": "made",
        "question": f"Made-up question number {number}: which of these?",
        "options": [f"thing {number} {letter}" for letter in LETTERS],
        "gold": gold,
        "condition": "adversary" if adversary else "clean",
        "run": run,
        "agents": agents,
        "source": {"repo": "made for these tests"},
    }


def debates(seed: int = 0, runs: int = 2, each: int = 6) -> list[dict[str, Any]]:
    """Runs of debates, every second one with an adversary; half of a run's questions are in the next run as well."""
    chance = random.Random(seed)
    return [
        debate(run * each // 2 + number, chance, run=f"run{run}", adversary=run % 2 == 1)
        for run in range(runs)
        for number in range(each)
    ]


def sums(seed: int = 1, count: int = 5) -> list[dict[str, Any]]:
    """Open questions, ten samples each, one round; no run is named."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        gold = 17 + number
        answers = [str(gold if chance.random() < 0.6 else chance.randrange(40)) for _ in range(10)]
        agents = [
            {"id": f"s{place}", "rounds": [f"Sample {place}, sum {number}: it makes {answer}."], "answers": [answer]}
            for place, answer in enumerate(answers)
        ]
        question = f"What is {number} plus seventeen?"
        rows.append(
            {"task_id": f"sum{number}", "dataset": "sums", "question": question, "gold": str(gold), "agents": agents}
        )
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as *.jsonl.gz, the same bytes each time."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def write_folder(folder: Path, seed: int = 0) -> Path:
    """Two files: debates in runs, and sums."""
    write_rows(folder / "made-debates.jsonl.gz", debates(seed))
    write_rows(folder / "made-sums.jsonl.gz", sums(seed + 1))
    return folder
