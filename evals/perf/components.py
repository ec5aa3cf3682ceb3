"""Where CPU goes, by sampling: what the event loop's thread was in, at every tick of this process's CPU clock.

A tracing profiler charges for each call, and so blames code that is made of many small ones. A sample costs the same
wherever it falls. Each one weighs what this thread itself used since the last, so that neither waiting nor the ledger's
writer thread counts. What a built-in costs falls to the Python function that calls it.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from types import CodeType, FrameType

__all__ = ["Sampler", "component"]

TICK_S = 0.001
_PACKAGE = re.compile(r"(?:site|dist)-packages[/\\]([A-Za-z0-9_]+)")
_MADFLOW = re.compile(r".*[/\\]madflow[/\\](.+?)(?:\.py)?$")
_SEPARATOR = re.compile(r"[/\\]")
_TOGETHER = {
    "yarl": "aiohttp",
    "multidict": "aiohttp",
    "propcache": "aiohttp",
    "frozenlist": "aiohttp",
    "aiosignal": "aiohttp",
    "aiohappyeyeballs": "aiohttp",
    "pydantic_core": "pydantic",
    "langsmith": "langchain_core",
}
_STANDARD = ("asyncio", "json", "selectors", "dataclasses")


def component(file: str) -> str:
    """The component that a file belongs to: a package, a part of the standard library, or a room of madflow."""
    if packaged := _PACKAGE.search(file):
        return _TOGETHER.get(packaged[1], packaged[1])
    if own := _MADFLOW.match(file):
        return f"madflow {_SEPARATOR.split(own[1])[0]}"
    for name in _STANDARD:
        if f"/{name}/" in file or file.endswith(f"/{name}.py"):
            return name
    return "benchmark" if file.endswith(("arm.py", "components.py")) else "other"


class Sampler:
    """Samples the main thread while its block runs.

    Attributes:
        own, within: seconds by function: in itself, and in itself or what it calls.
    """

    def __init__(self) -> None:
        self.own: Counter[CodeType] = Counter()
        self.within: Counter[CodeType] = Counter()
        self._last_s = 0.0

    def __enter__(self) -> Sampler:
        self._last_s = time.thread_time()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now_s = time.thread_time()
        weight, self._last_s = now_s - self._last_s, now_s
        if frame is not None:
            self.own[frame.f_code] += weight
        seen = set()
        while frame is not None:
            if frame.f_code not in seen:
                seen.add(frame.f_code)
                self.within[frame.f_code] += weight
            frame = frame.f_back

    def components(self) -> dict[str, float]:
        """Component → share of the samples, 0 to 1, largest first."""
        shares = Counter[str]()
        for code, weight in self.own.items():
            shares[component(code.co_filename)] += weight
        total = sum(shares.values()) or 1.0
        return {name: weight / total for name, weight in shares.most_common()}

    def dearest(self, most: int = 30) -> dict[str, float]:
        """The functions that cost most by themselves → share of the samples, 0 to 1."""
        return self._shares(self.own, most)

    def dearest_within(self, most: int = 60) -> dict[str, float]:
        """The functions that cost most with what they call → share; those that hold nearly everything left out."""
        return self._shares(self.within, most, below=0.6)

    def _shares(self, weights: Counter[CodeType], most: int, below: float = 1.0) -> dict[str, float]:
        total = sum(self.own.values()) or 1.0
        shares = ((_name(code), weight / total) for code, weight in weights.most_common())
        return dict([(name, share) for name, share in shares if share < below][:most])


def _name(code: CodeType) -> str:
    file = code.co_filename
    short = f"madflow/{own[1]}.py" if (own := _MADFLOW.match(file)) else "/".join(_SEPARATOR.split(file)[-2:])
    return f"{short}:{code.co_firstlineno} {code.co_qualname}"
