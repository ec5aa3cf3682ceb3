"""Sagas as readable scripts with golden output (tests/golden/saga/*.txt).

`MADFLOW_REWRITE=1 pytest tests/core/test_saga_golden.py` writes the output anew: read the difference before you commit
it. A script has one directive a line, and beneath it, indented, what became of it:

    plan CLASS[/UNDO_CLASS][/no|/nothing] …     the steps; the undo is verifiable, and there is one, unless it says so
    RESULT …                                    perform what is due with each of these results (see saga_runner)
    human STEP do|undo WORD                     a human's word
    late STEP do|undo                           the commit has no time left

Catches any change of what is due, what is recorded, and in which order.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from saga_runner import Rec, Saga, spec

from madflow.core.saga import Action, Wait

SCRIPTS = sorted((Path(__file__).parents[1] / "golden" / "saga").glob("*.txt"))


def run_script(text: str) -> str:
    """The script with its output made anew."""
    saga: Saga | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "plan":
            saga = Saga([_spec(index, word) for index, word in enumerate(words[1:])])
            continue
        assert saga is not None, "a script begins with its plan"
        for said in _do(saga, words):
            lines.append(f"    {said}")
    assert saga is not None
    lines += [f"    next: {_action(saga.due())}", *(f"    violated: {wrong}" for wrong in saga.broken())]
    return "\n".join(lines) + "\n"


def _spec(index: int, word: str) -> Any:
    parts = word.split("/")
    undoable = parts.pop() if parts[-1] in ("no", "nothing") else "yes"
    do, undo = (*parts, "verifiable")[:2]
    return spec(index, do, undo, undoable)  # type: ignore[arg-type]


def _do(saga: Saga, words: list[str]) -> list[str]:
    before = len(saga.records)
    if words[0] in ("human", "late"):
        index, direction = int(words[1]), words[2]
        assert direction in ("do", "undo")
        if words[0] == "human":
            saga.human(index, direction, words[3])  # type: ignore[arg-type]
        else:
            saga.late(index, direction)  # type: ignore[arg-type]
        return [_record(record) for record in saga.records[before:]]
    said = []
    for result in words:
        before = len(saga.records)
        said.append(f"{_action(saga.play(result))}: {result}")
        said += [f"  {_record(record)}" for record in saga.records[before:]]
    return said


def _action(action: Action) -> str:
    fields = {name: getattr(action, name) for name in action.__slots__ if name != "keys"}
    if isinstance(action, Wait):
        return f"Wait for {len(action.keys)}"
    shown = [
        str(value) if name in ("index", "direction", "kind") else f"{name}={value}"
        for name, value in fields.items()
        if value
    ]
    if fields.get("index") == 0:
        shown.insert(0, "0")
    return " ".join([type(action).__name__, *shown])


def _record(record: Rec) -> str:
    payload = record.payload
    said = [str(record.seq), record.kind]
    if "step_index" in payload:
        said += [f"step {payload['step_index']}", f"attempt {payload['attempt']}"]
    said += [str(payload[name]) for name in ("error_code", "rollback") if payload.get(name)]
    result = payload.get("result") or {}
    said += [
        f"{name}={result[name]}" for name in ("status", "as", "applied", "learnt_by") if result.get(name) is not None
    ]
    return " · ".join(said)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_has_its_golden_output(path: Path) -> None:
    text = path.read_text("utf-8")
    found = run_script(text)
    if os.environ.get("MADFLOW_REWRITE") == "1":
        path.write_text(found, "utf-8")
        return
    assert found == text, f"{path.name} differs; MADFLOW_REWRITE=1 rewrites it, if the change is meant"


def test_there_are_scripts() -> None:
    assert {"committed", "compensated", "crashes", "in_doubt", "late"} <= {path.stem for path in SCRIPTS}
