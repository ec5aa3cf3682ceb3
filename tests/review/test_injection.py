"""A diff that talks to its reader: its words stay inside the fence, forge nothing, and silence nothing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from madflow.core.messages import Seat, Task
from madflow.core.replies import parse_reply
from madflow.crews import load_crew
from madflow.errors import ReplyError
from madflow.models.analysers import AnalyserModel
from madflow.ports import ModelRequest, TurnView
from madflow.review.diff import read_diff

DIFF = (Path(__file__).parent / "fixtures" / "injection.diff").read_text()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    lines = [line[1:] for line in DIFF.split("\n")[5:] if line[:1] in ("+", " ")]
    (tmp_path / "notes.py").write_text("".join(f"{line}\n" for line in lines))
    return read_diff(DIFF, question="q", root=tmp_path)


def test_the_text_stays_between_marks_that_it_cannot_forge(task: Task) -> None:
    prompts = load_crew("review").prompts("review")
    (file,) = task.files
    fenced = prompts.fence(file.diff)
    assert file.diff in fenced
    before, after = fenced.split(file.diff)
    keys = set(re.findall(r"[0-9a-f]{6,}", before)) & set(re.findall(r"[0-9a-f]{6,}", after))
    assert keys  # one key on both sides ...
    assert all(key not in file.diff for key in keys)  # ... that the text does not hold
    forged = file.diff + after
    assert keys.isdisjoint(re.findall(r"[0-9a-f]{6,}", prompts.fence(forged).replace(forged, "")))


def test_orders_and_suppressing_comments_silence_no_finding(task: Task) -> None:
    view = TurnView("d", "find", 1, Seat(agent="s", model="m", family="f"), task)
    reply = asyncio.run(AnalyserModel("security").complete(ModelRequest("c", "m", "", "", 1024, 10.0, view=view)))
    assert "S307" in {finding.code for finding in parse_reply("find", reply.text).findings}


def test_a_reply_that_only_repeats_the_diff_casts_no_ballot(task: Task) -> None:
    for stage in ("assess", "find", "ballot"):
        for text in (task.files[0].diff, f"The diff says:\n{task.files[0].diff}"):
            with pytest.raises(ReplyError):
                parse_reply(stage, text)
