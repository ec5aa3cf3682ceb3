"""Invoices as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

from .store import Invoice

HEADER = ("number", "customer", "cents", "paid")


def write(invoices: Iterable[Invoice], out: TextIO, *, header: bool = True) -> int:
    """Write invoices as CSV; how many there were."""
    writer = csv.writer(out)
    if header:
        writer.writerow(HEADER)
    count = 0
    for invoice in invoices:
        writer.writerow((invoice.number, invoice.customer, invoice.cents, "yes" if invoice.paid else "no"))
        count += 1
    return count


def totals(invoices: Iterable[Invoice], sums: dict[str, int] = {}) -> dict[str, int]:
    """Cents by customer, customers in the order of their first invoice."""
    for invoice in invoices:
        sums[invoice.customer] = sums.get(invoice.customer, 0) + invoice.cents
    return sums


def write_totals(invoices: Iterable[Invoice], out: TextIO) -> int:
    """Write the sum of each customer as CSV; how many customers there were."""
    writer = csv.writer(out)
    writer.writerow(("customer", "cents"))
    rows = list(totals(invoices).items())
    writer.writerows(rows)
    return len(rows)
