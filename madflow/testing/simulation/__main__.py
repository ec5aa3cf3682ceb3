"""Many seeds on all cores: `python -m madflow.testing.simulation --seeds 100000`. Exit code 1: a promise is broken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from typing import Final

from .mutants import MUTANTS
from .run import Report, simulate
from .shards import sweep

__all__ = ["FAILURES_MAX", "main"]

FAILURES_MAX: Final = 5


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m madflow.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds (default: 1000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default: 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="plant this defect")
    parser.add_argument("--trace", action="store_true", help="print the first seed's whole trace, and nothing else")
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.first < 0:
        parser.error(f"--seeds {args.seeds} --from {args.first}: at least one seed, from 0 or later")
    if args.trace:
        return _show(simulate(args.first, mutant=args.mutant))
    began, done, failures = time.monotonic(), 0, 0
    counts: Counter[str] = Counter()
    for seeds, failed, happened in sweep(args.first, args.seeds, mutant=args.mutant, workers=args.workers):
        done, failures = done + seeds, failures + len(failed)
        counts.update(happened)
        for text in failed:
            print(text, flush=True)
        print(f"{done} of {args.seeds} seeds, {failures} failed", file=sys.stderr, flush=True)
        if failures >= FAILURES_MAX:
            break
    took = time.monotonic() - began
    happened_text = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    print(f"{done} seeds from {args.first} in {took:.0f} s: {failures} failed ({happened_text})")
    return 1 if failures else 0


def _show(report: Report) -> int:
    print("\n".join(report.lines))
    print(f"seed {report.seed}: {'; '.join(report.wrong) or 'all promises kept'}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
