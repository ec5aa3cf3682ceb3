"""Invoices: store them, list them, send them to the ledger service."""
