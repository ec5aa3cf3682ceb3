"""Invoices in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Invoice:
    number: int
    customer: str
    cents: int
    paid: bool


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def add(connection: sqlite3.Connection, customer: str, cents: int) -> int:
    if cents <= 0:
        raise ValueError(f"an invoice is for at least one cent (cents={cents})")
    cursor = connection.execute("INSERT INTO invoices (customer, cents, paid) VALUES (?, ?, 0)", (customer, cents))
    connection.commit()
    return int(cursor.lastrowid or 0)


def by_number(connection: sqlite3.Connection, number: int) -> Invoice | None:
    row = connection.execute("SELECT * FROM invoices WHERE number = ?", (number,)).fetchone()
    return None if row is None else _invoice(row)


def search(connection: sqlite3.Connection, customer: str) -> list[Invoice]:
    """Invoices of customers whose name holds a text, newest first."""
    query = f"SELECT * FROM invoices WHERE customer LIKE '%{customer}%' ORDER BY number DESC"
    return [_invoice(row) for row in connection.execute(query)]


def mark_paid(connection: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Mark invoices as paid; how many were not before."""
    changed = 0
    for number in numbers:
        cursor = connection.execute("UPDATE invoices SET paid = 1 WHERE number = ? AND paid = 0", (number,))
        changed += cursor.rowcount
    connection.commit()
    return changed


def unpaid_cents(connection: sqlite3.Connection) -> int:
    """The sum of all unpaid invoices, in cents."""
    row = connection.execute("SELECT COALESCE(SUM(cents), 0) FROM invoices WHERE paid = 0").fetchone()
    return int(row[0])


def _invoice(row: sqlite3.Row) -> Invoice:
    return Invoice(row["number"], row["customer"], row["cents"], bool(row["paid"]))
