"""Files that this process must never open and close: its ledgers, and the databases that a step is working in."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from effect_worlds import own_locks

from madflow.commit.facts import gather_facts
from madflow.core.policy import Policy
from madflow.debate.reading import read_beneath
from madflow.effects.beneath import inspect, read_file, replace_file
from madflow.effects.environment import absolute_path
from madflow.effects.freeze import freeze_plan
from madflow.errors import EffectError, LedgerError, PlanError
from madflow.held import find_held, hold, open_unheld, release
from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.panel.api import propose
from madflow.ports import Event

LEDGER = "state/ledger.db"
HELD = (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", "hard.db", "hard.db-wal", "hard.db-shm")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A live ledger beneath the root, outside of .madflow, and hard links to its files."""
    with open_ledger(tmp_path / LEDGER) as ledger:
        ledger.record_now("s", [Event("x", {})], after=0)
        for end in ("", "-wal", "-shm"):
            os.link(tmp_path / f"{LEDGER}{end}", tmp_path / f"hard.db{end}")
        yield ledger


@pytest.mark.parametrize("path", HELD)
def test_what_reads_beneath_a_root_leaves_the_ledger_its_locks(path: str, tmp_path: Path, ledger: SqliteLedger) -> None:
    """Catches each way to open and close a file of the live ledger, which drops SQLite's locks on it."""
    locks = own_locks()
    assert locks
    told = {"step": "write", "target": f"file:{path}", "content": "x"}
    with pytest.raises(EffectError, match="this process has open") as refused:
        read_file(tmp_path, path)
    assert refused.value.code == "held" and own_locks() == locks
    with pytest.raises(EffectError, match="this process has open"):
        replace_file(tmp_path, path, b"x", token="t")
    assert "this process has open" in inspect(tmp_path, path).problem and own_locks() == locks
    assert "this process has open" in str(read_beneath(tmp_path, path)) and own_locks() == locks
    with pytest.raises(PlanError, match="this process has open"):
        freeze_plan([told], tmp_path)
    with pytest.raises(EffectError, match="this process has open"), open_unheld(tmp_path / path):
        pass
    assert own_locks() == locks
    facts = gather_facts([{"step": "read", "target": f"file:{path}"}], tmp_path, Policy(), now_ms=0)
    assert "this process has open" in facts.paths[path].problem and own_locks() == locks


def test_what_the_submitter_calls_its_own_is_not_looked_at(tmp_path: Path) -> None:
    """Catches facts that are gathered of protected paths: a ledger that another process has open, a policy."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "a").write_text("x")
    told = [{"step": "read", "target": "file:state/a"}]
    facts = gather_facts(told, tmp_path, Policy(), now_ms=0, protected=("state",))
    assert "the submitter's" in facts.paths["state/a"].problem and not facts.paths["state/a"].sha256


@pytest.mark.parametrize("path", ["policy.toml", LEDGER, "state/new"])
async def test_a_plan_that_writes_the_submitters_own_is_not_proposed(
    path: str, tmp_path: Path, ledger: SqliteLedger
) -> None:
    """Catches a vote on a plan that the gate can only refuse."""
    locks = own_locks()
    with pytest.raises(PlanError, match="the submitter's"):
        told = [{"step": "write", "target": f"file:{path}", "content": "x"}]
        await propose(ledger, told, panel="a", proposer="p", root=tmp_path)
    assert own_locks() == locks and ledger.streams() == ["s"]


def test_a_name_beside_a_held_database_is_refused_though_nothing_is_there(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Catches a step that makes the journal which SQLite rolls back at the next opening."""
    with pytest.raises(EffectError, match="this process has open"):
        replace_file(tmp_path, f"{LEDGER}-journal", b"x", token="t")
    assert not (tmp_path / f"{LEDGER}-journal").exists()


def test_a_closed_ledger_is_a_file_again(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Catches a registry that only grows, and one that forgets a file while one of two ledgers has it open."""
    second = open_ledger(tmp_path / LEDGER, readonly=True)
    ledger.close()
    assert inspect(tmp_path, "hard.db").problem
    second.close()
    assert inspect(tmp_path, "hard.db").exists
    with pytest.raises(LedgerError, match="no ledger"):
        open_ledger(tmp_path / "none.db", readonly=True)
    (tmp_path / "none.db").write_text("x")
    assert inspect(tmp_path, "none.db").exists


def test_who_opens_a_database_waits_for_who_reads_it(tmp_path: Path) -> None:
    """Catches a reader that was there first, and closes the file when the database has taken its locks."""
    file = tmp_path / "a.db"
    file.write_text("x")
    held = threading.Event()

    def take() -> None:
        mine = hold(file, "database")
        held.set()
        release(mine)

    taker = threading.Thread(target=take)
    with open_unheld(file) as reading:
        taker.start()
        while find_held(file.stat()) is None:
            os.sched_yield()
        assert os.read(reading, 2) == b"x" and not held.is_set()
        with pytest.raises(EffectError) as refused, open_unheld(file):
            pass
        assert (refused.value.code, refused.value.transient) == ("held", True)
    taker.join(10)
    assert held.is_set() and find_held(file.stat()) is None


def test_a_link_and_a_pipe_are_not_opened(tmp_path: Path) -> None:
    """Catches a symbolic link that is followed, and a pipe that is waited for."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(EffectError, match="no regular file"), open_unheld(tmp_path / name):
            pass


def test_programs_are_looked_up_on_absolute_paths_alone() -> None:
    """Catches a git or a command from whatever folder the submitter runs in."""
    assert absolute_path({"PATH": ".:/usr/bin::bin:/bin"}) == "/usr/bin:/bin"
