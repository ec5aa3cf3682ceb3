"""Electors: who may try to submit. On one machine (`local`) the ledger votes and a kernel lock keeps the peace."""
