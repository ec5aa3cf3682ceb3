"""Predictions: they need nothing that scoring knows, and depend on what was said and on nothing else."""

import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eval_rows import debates, sums, write_folder, write_rows

from madflow.errors import ConfigError
from madflow.evals.load import stripped
from madflow.evals.predict import predict, recorded_files

FIELDS = ["task_id", "run", "answer", "abstained", "confidence", "stop_reason", "rounds", "calls", "tokens"]
POLICIES = ["robust", "value", "single", "judge"]
Rows = list[dict[str, Any]]


def read_folder(folder: Path) -> dict[str, Rows]:
    return {
        path.name: [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        for path in sorted(folder.iterdir())
    }


def renamed_and_shuffled(files: dict[str, Rows], chance: random.Random) -> Iterator[tuple[str, Rows, list[Any]]]:
    """(new file name, new rows, the old key of each): gold gone, seats permuted, runs, rows and agents renamed."""
    for number, (name, rows) in enumerate(files.items()):
        order = list(range(len(rows)))
        chance.shuffle(order)
        changed, keys = [], []
        runs: dict[Any, str] = {}
        agents: dict[tuple[Any, Any, Any], str] = {}
        for at in order:
            row = stripped(rows[at])
            old_run = row.get("run")
            if old_run is not None:
                row["run"] = runs.setdefault(old_run, f"{chance.randrange(10**9)}-run")
            row["task_id"] = f"task-{chance.randrange(10**9)}"
            for agent in row["agents"]:
                key = (old_run, agent["id"], agent.get("model"))
                agent["id"] = agents.setdefault(key, f"{chance.randrange(10**9)}")
            chance.shuffle(row["agents"])
            changed.append(row)
            keys.append((name, at))
        yield f"{chance.randrange(10**9)}-{number}.jsonl.gz", changed, keys


def check_invariance(files: dict[str, Rows], policy: str, tmp_path: Path) -> None:
    """Predict both, line for line: nothing may differ but names."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    chance = random.Random(7)
    where: dict[str, list[Any]] = {}
    for name, rows in files.items():
        write_rows(plain / name, rows)
    for name, rows, keys in renamed_and_shuffled(files, chance):
        write_rows(other / name, rows)
        where[name] = keys
    places = [(name, at) for name, rows in sorted(files.items()) for at in range(len(rows))]
    before = dict(zip(places, predict(plain, policy), strict=True))
    moved = [key for name in sorted(where) for key in where[name]]
    after = dict(zip(moved, predict(other, policy), strict=True))
    for place, one in before.items():
        for line in (one, after[place]):
            line.pop("task_id")
            line.pop("run")
        assert after[place] == one, place


@pytest.mark.parametrize("policy", POLICIES)
def test_names_order_and_gold_decide_nothing(policy: str, tmp_path: Path) -> None:
    """Catches: a policy or loader that reads gold, condition or adversary, sorts by a name, asks in file order."""
    check_invariance(read_folder(write_folder(tmp_path / "from")), policy, tmp_path)


@pytest.mark.parametrize("policy", ["robust", "single"])
def test_names_order_and_gold_decide_nothing_on_real_recordings(policy: str, tmp_path: Path) -> None:
    """Catches the same where texts are unreadable, seats missing, and several agents share an id or a model."""
    folder = os.environ.get("MADFLOW_RECORDED", "")
    if not folder:
        pytest.skip("MADFLOW_RECORDED names no folder: real recordings are not shipped")
    files = {}
    for path in sorted(Path(folder).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line, _ in zip(lines, range(300), strict=False)]
        rows = [row for row in rows if row.get("agents")]
        if rows:
            named = sorted({row.get("run", "") for row in rows})[:2]
            files[path.name] = [row for row in rows if row.get("run", "") in named][:15]
    assert len(files) > 5
    check_invariance(files, policy, tmp_path)


def test_a_line_a_debate_in_the_order_of_files_and_rows(tmp_path: Path) -> None:
    """Catches: another field or order; an option's text instead of its letter; tokens of what was not asked for."""
    folder = write_folder(tmp_path / "from")
    found = predict(folder, "vote")
    assert [list(one) for one in found] == [FIELDS] * len(found)
    assert [one["task_id"] for one in found] == [row["task_id"] for row in [*debates(), *sums()]]
    first, row = found[0], debates()[0]
    assert first["answer"] in "ABCD" and first["run"] == "run0"
    assert (first["rounds"], first["calls"]) == (1, 3)
    assert first["tokens"] == sum(len(agent["rounds"][0]) + 100 for agent in row["agents"]) / 4
    assert found[-1]["answer"] == "21" and found[-1]["calls"] == 10


def test_runs_are_kept_apart(tmp_path: Path) -> None:
    """Catches: reliabilities learned across runs: an adversary in one run would change the others."""
    both = write_rows(tmp_path / "both" / "a.jsonl.gz", debates())
    clean = [row for row in debates() if row["run"] == "run0"]
    alone = write_rows(tmp_path / "alone" / "a.jsonl.gz", clean)
    assert predict(both, "reliable")[: len(clean)] == predict(alone, "reliable")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[3].pop("agents"), "a.jsonl.gz:4"),
        (lambda rows: rows[2].update(agents="nobody"), "a.jsonl.gz:3"),
        (lambda rows: rows[5]["agents"][0].update(rounds=[7]), "a.jsonl.gz:6"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(spoil: Callable[[Rows], None], said: str, tmp_path: Path) -> None:
    """Catches: a row that is skipped in silence, so that predictions and rows no longer match."""
    rows = debates()
    spoil(rows)
    with pytest.raises(ConfigError, match=said):
        predict(write_rows(tmp_path / "a.jsonl.gz", rows), "vote")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    """Catches: predictions of an earlier run, *.jsonl in the same folder, taken for recordings."""
    with pytest.raises(ConfigError, match="no such folder"):
        recorded_files(tmp_path / "nothing")
    (tmp_path / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"holds no \*\.jsonl\.gz"):
        recorded_files(tmp_path)
    write_folder(tmp_path)
    assert [path.name for path in recorded_files(tmp_path)] == ["made-debates.jsonl.gz", "made-sums.jsonl.gz"]
    with pytest.raises(ConfigError, match=r"there is no policy .wise.; there are .*robust"):
        predict(tmp_path, "wise")
    (tmp_path / "broken.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00no gzip")
    with pytest.raises(ConfigError, match=r"broken\.jsonl\.gz:1"):
        predict(tmp_path, "vote")


def test_an_open_answer_is_given_as_it_was_written(tmp_path: Path) -> None:
    """Catches: a right answer in another notation than the data's own, which a plain comparison calls wrong."""
    said = ["1/4", "0.25", "1/4", "3"]
    agents = [{"id": f"s{n}", "rounds": [f"It is {answer}."], "answers": [answer]} for n, answer in enumerate(said)]
    folder = tmp_path / "open"
    folder.mkdir()
    row = {"task_id": "t", "question": "A quarter?", "agents": agents}
    (folder / "made.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    (found,) = predict(folder, "vote")
    assert found["answer"] == "1/4"


def test_a_spelling_with_words_in_it_is_not_taken(tmp_path: Path) -> None:
    """Catches: `672dollars` given as the answer, because that is how the recording has it."""
    agents = [{"id": f"s{n}", "rounds": ["It is 672 dollars."], "answers": ["672dollars"]} for n in range(3)]
    folder = tmp_path / "open"
    folder.mkdir()
    row = {"task_id": "t", "question": "How much?", "agents": agents}
    (folder / "made.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    (found,) = predict(folder, "vote")
    assert found["answer"] == "672"
