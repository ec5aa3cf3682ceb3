"""What a debate costs beside its model calls, and a commit beside its syncs: one run, each figure beside its target.

    python evals/perf/bench.py                      everything, some minutes
    python evals/perf/bench.py --only cpu crowd     some figures
    python evals/perf/bench.py --only append group commit failover      those of the commit layer
    python evals/perf/bench.py --profile            where the CPU of a debate goes
    python evals/perf/bench.py --quick              everything very small: checks the script, measures nothing

Debates run over HTTP against a loopback OpenAI-compatible server in a process of its own, with the SQLite ledger on.
The baseline is a loop written by hand on the openai SDK that sends the same bytes. Both arms and the server share this
machine's cores. The commit layer is measured beside bare syncs on the same file system. docs/reference/performance.md
says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from commit_sections import CommitScale, CommitSections
from figures import Figure, line
from processes import arm, requests, server, start_up_s, stats

ROUNDS = 3
CAPTURE = {"url": "", "rounds": ROUNDS, "debates": 1, "at_once": 1}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. Times in milliseconds."""

    pairs: int
    debates: int
    warm_up: int
    latency_ms: int
    wall_debates: int
    crowd: tuple[int, int, int]
    wait: tuple[int, int]
    cache_ms: int
    starts: int
    profiled: int
    commit: CommitScale


FULL_COMMIT = CommitScale((60, 50, 2_000), (5, 40), (10, 5), 1.0)
QUICK_COMMIT = CommitScale((1, 5, 50), (1, 1), (1, 1), 0.3)
FULL = Scale(5, 150, 20, 200, 10, (300, 100, 50), (100, 2000), 400, 5, 500, FULL_COMMIT)
QUICK = Scale(1, 3, 1, 20, 2, (6, 3, 10), (4, 50), 40, 1, 5, QUICK_COMMIT)


class Bench(CommitSections):
    """One run of the benchmark. What two figures share is measured once."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        super().__init__(folder, scale.commit)
        self.folder, self.scale = folder, scale
        self._counts: list[tuple[str, int, int]] = []
        self.profiled: dict[str, Any] | None = None
        self.bodies = cache(self._bodies)
        self.crowd_runs = cache(self._crowd_runs)
        self.wait_run = cache(self._wait_run)
        self.cache_runs = cache(self._cache_runs)

    def _arm(self, name: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if name == "baseline":
            jobs = [{**job, "bodies": self.bodies()[job["agents"]]} for job in jobs]
        return arm(name, self.folder / "arms", jobs)

    def _bodies(self) -> dict[int, list[list[dict[str, Any]]]]:
        """By number of agents: the bodies of a debate's requests, by round, as madflow sent them."""
        jobs = [{**CAPTURE, "agents": agents} for agents in (3, 7)]
        found = arm("capture", self.folder / "arms", jobs)
        return {job["agents"]: result["bodies"] for job, result in zip(jobs, found, strict=True)}

    def _count(self, what: str, url: str, job: Mapping[str, Any], warm: bool = True) -> None:
        """Note how many requests a job's server saw, and how many it should have seen."""
        debates = job["debates"] + (job["warm_up"] if warm else 0)
        self._counts.append((what, requests(url), debates * job["agents"] * job["rounds"]))

    def wall(self) -> list[Figure]:
        """One debate at a time against a server that takes its time."""
        ms, targets, figures = self.scale.latency_ms, {3: 1.03, 7: 1.05}, []
        ideal_s = ROUNDS * ms / 1000
        with server(ms) as url:
            job = {"url": url, "rounds": ROUNDS, "debates": self.scale.wall_debates, "at_once": 1, "warm_up": 2}
            jobs = [{**job, "agents": agents} for agents in targets]
            ours = [run["walls_s"] for run in self._arm("madflow", jobs)]
            wanted = sum((job["debates"] + job["warm_up"]) * job["agents"] * ROUNDS for job in jobs)
            self._counts.append((f"one at a time at {ms} ms", requests(url), wanted))
            theirs = [run["walls_s"] for run in self._arm("baseline", jobs)]
        for (agents, target), mine, other in zip(targets.items(), ours, theirs, strict=True):
            detail = (
                f"median {median(mine) * 1000:.0f} ms of {len(mine)}, fastest {min(mine) * 1000:.0f}, "
                f"slowest {max(mine) * 1000:.0f}; baseline {median(other) * 1000:.0f} ms"
            )
            name = f"{agents}×3 at {ms} ms a call"
            figures.append(Figure("wall", name, median(mine) / ideal_s, "× ideal", target, detail))
        return figures

    def cpu(self) -> list[Figure]:
        """CPU of one debate, all threads, at no latency; arms in turn, each time in a fresh process."""
        ours, theirs, loops = [], [], []
        self.bodies()
        with server() as url:
            job = {"url": url, "agents": 3, "rounds": ROUNDS, "debates": self.scale.debates, "at_once": 1}
            job |= {"warm_up": self.scale.warm_up}
            for _ in range(self.scale.pairs):
                run = self._arm("madflow", [job])[0]
                self._count("3×3 at 0 ms", url, job)
                ours.append(run["cpu_s"] / self.scale.debates * 1000)
                loops.append(run["loop_cpu_s"] / self.scale.debates * 1000)
                run = self._arm("baseline", [job])[0]
                requests(url)
                theirs.append(run["cpu_s"] / self.scale.debates * 1000)
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        detail = (
            f"madflow {median(ours):.2f} ms (event loop {median(loops):.2f}), baseline {median(theirs):.2f} ms; "
            f"pairs {' '.join(f'{ratio:.2f}' for ratio in ratios)}"
        )
        return [Figure("cpu", "CPU per 3×3 debate at 0 ms", median(ratios), "× baseline", 0.6, detail)]

    def _crowd_runs(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        debates, at_once, ms = self.scale.crowd
        found = []
        self.bodies()
        with server(ms) as url, server() as warm:
            job = {"url": url, "agents": 3, "rounds": ROUNDS, "debates": debates, "at_once": at_once}
            job |= {"warm_up": self.scale.warm_up, "warm_up_url": warm}
            for _ in range(min(3, self.scale.pairs)):
                ours = self._arm("madflow", [job])[0]
                self._count(f"{debates} debates, {at_once} at a time", url, job, warm=False)
                found.append((ours, self._arm("baseline", [job])[0]))
                requests(url)
        return found

    def crowd(self) -> list[Figure]:
        """Many debates at once."""
        debates, at_once, ms = self.scale.crowd
        runs = self.crowd_runs()
        ratios = [ours["wall_s"] / theirs["wall_s"] for ours, theirs in runs]
        ours_s, theirs_s = (median(run[side]["wall_s"] for run in runs) for side in (0, 1))
        ideal_s = -(-debates // at_once) * ROUNDS * ms / 1000
        detail = (
            f"madflow {ours_s:.2f} s (CPU {median(run[0]['cpu_s'] for run in runs):.2f}), baseline {theirs_s:.2f} s "
            f"(CPU {median(run[1]['cpu_s'] for run in runs):.2f}), ideal {ideal_s:.2f} s; "
            f"pairs {' '.join(f'{ratio:.2f}' for ratio in ratios)}"
        )
        name = f"{debates} debates, {at_once} at a time, {ms} ms"
        return [Figure("crowd", name, median(ratios), "× baseline", 0.5, detail)]

    def _wait_run(self) -> dict[str, Any]:
        at_once, ms = self.scale.wait
        with server(ms) as url, server() as warm:
            job = {"url": url, "agents": 3, "rounds": ROUNDS, "debates": at_once, "at_once": at_once}
            job |= {"warm_up": self.scale.warm_up, "warm_up_url": warm}
            run = self._arm("madflow", [job])[0]
            self._count(f"{at_once} at a time at {ms} ms", url, job, warm=False)
        return run

    def wait(self) -> list[Figure]:
        """A hundred debates at once on slow models."""
        at_once, ms = self.scale.wait
        run, ideal_s = self.wait_run(), ROUNDS * ms / 1000
        detail = f"{run['wall_s']:.2f} s, ideal {ideal_s:.2f} s, slowest debate {max(run['walls_s']):.2f} s"
        return [Figure("wait", f"{at_once} at a time, {ms} ms", run["wall_s"] / ideal_s, "× ideal", 1.15, detail)]

    def memory(self) -> list[Figure]:
        """The most memory that the madflow process of the two figures before held."""
        crowd = max(run[0]["rss_mb"] for run in self.crowd_runs())
        wait = self.wait_run()["rss_mb"]
        detail = f"{crowd:.0f} MB in the crowd, {wait:.0f} MB on slow models"
        return [Figure("memory", "peak RSS", max(crowd, wait), "MB", 150, detail)]

    def _cache_runs(self) -> dict[tuple[int, bool], dict[str, Any]]:
        """By agents and warm-first: wall seconds of one debate, and the books of its server; each cache began empty."""
        latency_ms = self.scale.cache_ms
        options = ("--first-token-ms", str(latency_ms / 2), "--cache-block-chars", "4")
        kinds = [(agents, warm_first) for agents in (3, 7) for warm_first in (False, True)]
        with ExitStack() as stack:
            warm = stack.enter_context(server())
            urls = [stack.enter_context(server(latency_ms, *options)) for _ in kinds]
            job = {"rounds": ROUNDS, "debates": 1, "at_once": 1, "warm_up": 2, "warm_up_url": warm}
            jobs = [
                {**job, "url": url, "agents": agents, "warm_first": warm_first}
                for url, (agents, warm_first) in zip(urls, kinds, strict=True)
            ]
            runs = self._arm("madflow", jobs)
            found = {}
            for url, kind, run in zip(urls, kinds, runs, strict=True):
                books = stats(url)
                what = f"{kind[0]}×3{' warm-first' * kind[1]}"
                self._counts.append((what, books["requests"], kind[0] * ROUNDS))
                found[kind] = {**books, "wall_s": run["wall_s"]}
        return found

    def cache(self) -> list[Figure]:
        """Prompt tokens that a provider's prefix cache cannot serve, and what it takes to have it serve the others."""
        figures = []
        for agents, before, after in ((3, 4387, 1480), (7, 21703, 3204)):
            at_once, warm = (self.cache_runs()[agents, warm_first] for warm_first in (False, True))
            first_s = self.scale.cache_ms / 2000
            extra = (warm["wall_s"] - at_once["wall_s"]) / ROUNDS / first_s
            ratio = warm["uncached_tokens"] / at_once["uncached_tokens"]
            detail = (
                f"{at_once['uncached_tokens']:,} → {warm['uncached_tokens']:,} of {warm['prompt_tokens']:,} tokens; "
                f"elsewhere {before:,} → {after:,} ({after / before:.2f})"
            )
            figures.append(Figure("cache", f"{agents}×3 uncacheable, warm-first", ratio, "× at once", detail=detail))
            detail = "times to the first token, a round"
            figures.append(Figure("cache", f"{agents}×3 extra wall, warm-first", extra, "TTFT", detail=detail))
        return figures

    def calls(self) -> list[Figure]:
        """Requests that the servers counted beside agents × rounds, over every madflow run of this benchmark."""
        self.cache_runs()
        beside = sum(abs(counted - wanted) for _, counted, wanted in self._counts)
        wrong = [f"{what}: {counted} for {wanted}" for what, counted, wanted in self._counts if counted != wanted]
        total = sum(wanted for _, _, wanted in self._counts)
        single = [f"{what}: {counted}" for what, counted, wanted in self._counts if wanted <= 7 * ROUNDS]
        detail = "; ".join(wrong) or f"{total:,} expected and counted; {', '.join(single)}"
        return [Figure("calls", "calls beside agents × rounds", beside, "", 0, detail, equal=True)]

    def start(self) -> list[Figure]:
        """Start-up of a fresh interpreter, its own start included."""
        python, times = sys.executable, self.scale.starts
        bare = median(start_up_s([python, "-c", "pass"], self.folder, times))
        walls = start_up_s([python, "-c", "import madflow"], self.folder, times)
        detail = f"median of {times}; python itself {bare * 1000:.0f} ms"
        figures = [Figure("start", "import madflow", median(walls), "s", 0.15, detail)]
        call = [python, "-c", "from madflow.cli import main; main()", "--help"]
        walls = start_up_s(call, self.folder, times)
        return [*figures, Figure("start", "madflow --help", median(walls), "s", 0.4, f"median of {times}")]

    def profile(self) -> dict[str, Any]:
        """CPU of a 3×3 debate at 0 ms by component."""
        if self.profiled is None:
            with server() as url:
                job = {"url": url, "agents": 3, "rounds": ROUNDS, "debates": self.scale.profiled, "at_once": 1}
                job |= {"warm_up": self.scale.warm_up}
                run = self._arm("profile", [job])[0]
            debates = self.scale.profiled
            self.profiled = {
                "cpu_ms": run["cpu_s"] / debates * 1000,
                "loop_cpu_ms": run["loop_cpu_s"] / debates * 1000,
                "components": run["components"],
                "within": run["within"],
                "own": run["own"],
            }
        return self.profiled


DEBATE = ("wall", "cpu", "crowd", "wait", "memory", "cache", "calls", "start")
COMMIT = ("append", "group", "commit", "failover")
SECTIONS = (*DEBATE, *COMMIT)


def profile_lines(found: Mapping[str, Any]) -> list[str]:
    """The profile as a table: milliseconds a debate by component, then the dearest functions."""
    loop, total = found["loop_cpu_ms"], found["cpu_ms"]
    lines = [
        f"CPU of a 3×3 debate at 0 ms: {total:.2f} ms, of which {total - loop:.2f} ms on the ledger's writer thread "
        f"and {loop:.2f} ms on the event loop, by component:"
    ]
    for name, share in found["components"].items():
        if share >= 0.005:
            lines.append(f"  {name:22} {share * loop:7.3f} ms {share:6.1%}")
    for title, names in (("with what they call", "within"), ("by themselves", "own")):
        lines.append(f"dearest functions, {title}")
        for name, share in found[names].items():
            lines.append(f"  {share * loop:7.3f} ms {share:6.1%}  {name}")
    return lines


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("openai", "httpx", "aiohttp", "langgraph", "langchain-core", "pydantic", "apsw")
    return {
        "python": platform.python_version(),
        "system": sys.platform,
        "cores": os.cpu_count(),
        "load": f"{os.getloadavg()[0]:.1f}",
        **{name: version(name) for name in packages},
    }


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[], metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, machine and profile to FILE")
    parser.add_argument("--quick", action="store_true", help="very small: checks that the script works")
    parser.add_argument("--profile", action="store_true", help="the CPU of a debate by component; alone without --only")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print. 0 whatever the figures are; an arm that fails raises."""
    options = _options(argv)
    wanted = options.only or (() if options.profile else SECTIONS)
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    if options.quick:
        print("quick: too small to measure anything; the figures below only show that the script works", flush=True)
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="madflow-bench-") as folder:
        bench = Bench(Path(folder), QUICK if options.quick else FULL)
        for section in (name for name in SECTIONS if name in wanted):
            measure: Callable[[], list[Figure]] = getattr(bench, section)
            for figure in measure():
                figures.append(figure)
                print(line(figure, options.quick), flush=True)
                if figure.section == "cpu" and not figure.met and not options.quick:
                    print("\n".join(profile_lines(bench.profile())), flush=True)
        if options.profile and bench.profiled is None:
            print("\n".join(profile_lines(bench.profile())), flush=True)
    judged = [figure for figure in figures if figure.met is not None]
    if judged and not options.quick:
        print(f"{sum(bool(figure.met) for figure in judged)} of {len(judged)} targets met")
    if options.json:
        data = {
            "machine": where,
            "quick": options.quick,
            "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
            "profile": bench.profiled,
        }
        options.json.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
