"""The public conformance suite over the elector of one machine: its votes in a SQLite ledger."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from madflow.clock import SystemClock
from madflow.election.local import LocalElector
from madflow.ledger.sqlite import open_ledger
from madflow.ports import Elector
from madflow.testing.elector_suite import ElectorSuite

CHILD = """
import sys
from pathlib import Path
from madflow.clock import SystemClock
from madflow.election.local import LocalElector
from madflow.ledger.sqlite import open_ledger
from madflow.testing.elector_suite import lead_until_killed
folder, scope, node, ttl_s = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
elector = LocalElector(open_ledger(folder / "ledger.db"), lock_dir=folder / "locks", clock=SystemClock())
lead_until_killed(elector, scope, node, ttl_s)
"""


class TestLocalElector(ElectorSuite):
    lacks = frozenset({"expires"})

    @pytest.fixture
    def make_elector(self, tmp_path: Path) -> Iterator[Callable[[], Elector]]:
        opened = []

        def make() -> Elector:
            ledger = open_ledger(tmp_path / "ledger.db")
            opened.append((LocalElector(ledger, lock_dir=tmp_path / "locks", clock=SystemClock()), ledger))
            return opened[-1][0]

        self.folder = tmp_path
        yield make
        for elector, ledger in opened:
            elector.close()
            ledger.close()

    def lead_in_child(self, elector: Elector, scope: str, node: str) -> subprocess.Popen[bytes]:
        words = [str(self.folder), scope, node, str(self.ttl_s)]
        return subprocess.Popen([sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE)
