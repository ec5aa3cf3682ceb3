"""The pull request that ships in examples/: the analysers find what defects.toml says they find, and nothing else."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from madflow.core.messages import Seat
from madflow.core.replies import parse_reply
from madflow.models.analysers import AREAS, analysers_crew
from madflow.ports import ModelRequest, TurnView
from madflow.review.diff import read_diff

FOLDER = Path(__file__).parents[2] / "examples" / "pull_request"
DEFECTS: list[dict[str, Any]] = tomllib.loads((FOLDER / "defects.toml").read_text())["defect"]


def test_six_defects_of_different_kinds_stand_on_added_lines() -> None:
    task = read_diff((FOLDER / "change.diff").read_bytes(), question="q", root=FOLDER / "tree")
    files = {file.path: file for file in task.files}
    assert len(DEFECTS) == len({defect["kind"] for defect in DEFECTS}) == 6
    assert sum(not defect["found_by"] for defect in DEFECTS) >= 2  # no analyser can find these
    for defect in DEFECTS:
        assert defect["line"] in files[defect["file"]].added
        assert defect["found_by"] in ("", *AREAS)
    assert 4 <= len(files) <= 8
    changed = sum(file.diff.count("\n+") + file.diff.count("\n-") - 2 for file in task.files)
    assert 120 <= changed <= 180


@pytest.mark.parametrize("with_root", [True, False])
def test_the_analysers_find_exactly_what_is_listed(with_root: bool) -> None:
    root = FOLDER / "tree" if with_root else None
    task = read_diff((FOLDER / "change.diff").read_bytes(), question="q", root=root)
    found: set[tuple[str, str, int, str]] = set()

    async def ask() -> None:
        for area, model in analysers_crew().items():
            view = TurnView("d", "find", 1, Seat(agent=area, model="analyser", family="analyser"), task)
            reply = await model.complete(ModelRequest("c", "analyser", "", "", 1024, 10.0, view=view))
            found.update((area, item.file, item.line, item.code) for item in parse_reply("find", reply.text).findings)

    asyncio.run(ask())
    listed = {(d["found_by"], d["file"], d["line"], d["code"]) for d in DEFECTS if d["found_by"]}
    if with_root:
        assert found == listed
    else:  # changed files cannot be read, only their diff's own lines: they show the secret and the debugger
        shown = {defect for defect in listed if defect[3].startswith("diff/")}
        debugger = next(defect for defect in listed if defect[3] == "T100")
        assert found == {*shown, (*debugger[:3], "diff/debug-leftover")}
