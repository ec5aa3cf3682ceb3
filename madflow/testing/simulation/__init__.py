"""Deterministic simulation of election, journal and saga: a seed is a run, and a failing seed can be played again.

    python -m madflow.testing.simulation --seeds 10000        # many seeds, on all cores
    python -m madflow.testing.simulation --seeds 1 --from 4711 --trace

`simulate(seed)` is pure. See docs/explanation/simulation.md.
"""

from .mutants import MUTANTS, Seams
from .run import Report, simulate

__all__ = ["MUTANTS", "Report", "Seams", "simulate"]
