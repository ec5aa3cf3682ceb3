"""The SQLite ledger under the suite that every fenced ledger runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from madflow.ledger.sqlite import SqliteLedger, open_ledger
from madflow.testing.fenced_suite import FencedLedgerSuite


class TestSqliteLedger(FencedLedgerSuite):
    @pytest.fixture
    def make_ledger(self, tmp_path: Path) -> Callable[[], SqliteLedger]:
        return lambda: open_ledger(tmp_path / ".madflow" / "ledger.db")

    def open_in_child(self, ledger: Any) -> str:
        return f"from madflow.ledger.sqlite import open_ledger\nledger = open_ledger({str(ledger.path)!r})"

    def tamper(self, ledger: Any, seq: int) -> None:
        connection = apsw.Connection(str(ledger.path))
        connection.execute("UPDATE records SET payload = ? WHERE seq = ?", (b'{"n":99}', seq))
        connection.close()
