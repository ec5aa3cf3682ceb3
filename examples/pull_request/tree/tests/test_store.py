"""The store, on a database in memory."""

from __future__ import annotations

import sqlite3

import pytest

from invoices import store

TABLE = "CREATE TABLE invoices (number INTEGER PRIMARY KEY, customer TEXT, cents INTEGER, paid INTEGER)"


@pytest.fixture
def connection() -> sqlite3.Connection:
    opened = store.connect(":memory:")
    opened.execute(TABLE)
    return opened


def test_paid_invoices_leave_the_unpaid_sum(connection: sqlite3.Connection) -> None:
    first = store.add(connection, "north", 1200)
    store.add(connection, "south", 800)
    assert store.mark_paid(connection, [first, first]) == 1
    assert store.unpaid_cents(connection) == 800


def test_an_invoice_is_for_something(connection: sqlite3.Connection) -> None:
    with pytest.raises(ValueError, match="at least one cent"):
        store.add(connection, "north", 0)
