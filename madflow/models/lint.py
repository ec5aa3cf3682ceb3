"""ruff over texts in memory: a child process, a private folder, bounded time and output.

The texts are a stranger's. ruff only parses them. They are written under names of ours into a folder of ours, never
into the tree; no configuration and no environment of the tree or the user is read (`--isolated`), and comments in the
text cannot silence a rule (`--ignore-noqa`): what they suppress is marked, and what to do with it is the caller's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.unified import file_lines
from ..errors import PermanentModelError
from .fixes import edits_patch, removal_patch

__all__ = ["Diagnostic", "RuffLinter"]

LINT_SECONDS_MAX = 30.0
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
CACHED_MAX = 4
_DEBUGGER = "T100"
_LONE_RETURN = re.compile(r"\r(?!\n)")
_SUPPRESSED = re.compile(r"#\s*(?:noqa|nosec)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding of ruff: lines `first` to `last` (1-based) of `path`.

    `suppressed`: a comment there says noqa. `fix`: a patch that repairs it, empty where code knows none.
    """

    path: str
    code: str
    first: int
    last: int
    message: str
    suppressed: bool
    fix: str = ""


class RuffLinter:
    """Runs ruff once per set of texts and remembers the last few results. Safe to share between threads.

    Args:
        select, ignore: rule codes or prefixes.
        command: how ruff is started; default: the binary that came with this Python's ruff package.
        seconds_max: deadline of one run.
        output_bytes_max: most output that is read.
    """

    def __init__(
        self,
        select: tuple[str, ...],
        ignore: tuple[str, ...] = (),
        *,
        command: tuple[str, ...] = (),
        seconds_max: float = LINT_SECONDS_MAX,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
    ) -> None:
        self.runs = 0
        self._rules = ("--select", ",".join(select), *(("--ignore", ",".join(ignore)) if ignore else ()))
        self._command = command
        self._seconds_max, self._output_bytes_max = seconds_max, output_bytes_max
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[Diagnostic, ...]] = OrderedDict()

    def lint(self, texts: Mapping[str, str]) -> tuple[Diagnostic, ...]:
        """Everything ruff says of `texts` (path → whole text), ordered by path and line. Blocks: call it in a thread.

        Raises:
            PermanentModelError: ruff is missing, fails, takes too long or says too much.
        """
        if not texts:
            return ()
        sizes = "".join(f"{path}\0{len(text)}\0{text}" for path, text in sorted(texts.items()))
        key = hashlib.sha256(sizes.encode("utf-8", "replace")).hexdigest()
        with self._lock:
            if key not in self._cache:
                self._cache[key] = self._run(texts)
                self.runs += 1
                while len(self._cache) > CACHED_MAX:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            return self._cache[key]

    def _run(self, texts: Mapping[str, str]) -> tuple[Diagnostic, ...]:
        with tempfile.TemporaryDirectory(prefix="madflow-lint-") as name:
            folder = Path(name)
            paths: dict[str, str] = {}
            for number, (path, text) in enumerate(sorted(texts.items())):
                place = folder / f"f{number:04d}" / _safe_name(path)
                place.parent.mkdir()
                # ruff ends a line at a lone \r too; ours end at \n only.
                place.write_text(_LONE_RETURN.sub(" ", text), encoding="utf-8", errors="replace", newline="")
                paths[str(place.resolve())] = path
            output = self._output(folder)
        found = _parsed(output, paths, {path: file_lines(text) for path, text in texts.items()})
        return tuple(sorted(found, key=lambda item: (item.path, item.first, item.code, item.message)))

    def _output(self, folder: Path) -> bytes:
        command = self._command or (_ruff(),)
        options = ("--isolated", "--no-cache", "--no-fix", "--ignore-noqa", "--exit-zero", "--quiet")
        arguments = [*command, "check", *options, "--output-format", "json", *self._rules]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RUFF_")}
        with tempfile.TemporaryFile() as errors:
            try:
                child = subprocess.Popen(
                    [*arguments, "."],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except OSError as error:
                raise PermanentModelError(
                    "analyser_missing", f"ruff cannot be started ({error}); install it: pip install 'ruff>=0.14'"
                ) from error
            output, late = _bounded(child, self._seconds_max, self._output_bytes_max)
            errors.seek(0)
            said = errors.read(2000).decode("utf-8", "replace").strip()
        if late:
            raise PermanentModelError(
                "analyser_timeout",
                f"ruff took longer than {self._seconds_max:g} s; review fewer or smaller files at once",
            )
        if len(output) > self._output_bytes_max:
            raise PermanentModelError(
                "analyser_output",
                f"ruff printed more than {self._output_bytes_max:,} bytes; review fewer or smaller files at once",
            )
        if child.returncode != 0:
            raise PermanentModelError(
                "analyser_failed",
                f"ruff ended with exit code {child.returncode}: {said[:500] or 'no message'}; check that "
                "`ruff --version` works and is at least 0.14",
            )
        return output


def _bounded(child: subprocess.Popen[bytes], seconds: float, size: int) -> tuple[bytes, bool]:
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        if child.stdout is None:  # never with PIPE; said for the type checker
            raise PermanentModelError("analyser_failed", "ruff has no output pipe")
        output = child.stdout.read(size + 1)
        if len(output) > size:
            child.kill()
        child.stdout.close()
        child.wait()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
    return output, late.is_set()


def _ruff() -> str:
    try:
        from ruff import find_ruff_bin  # type: ignore[import-untyped]

        return str(find_ruff_bin())
    except (ImportError, FileNotFoundError) as error:
        raise PermanentModelError(
            "analyser_missing", f"ruff is not installed ({str(error).splitlines()[0]}); pip install 'ruff>=0.14'"
        ) from error


def _safe_name(path: str) -> str:
    if path.endswith("/__init__.py") or path == "__init__.py":
        return "__init__.py"
    return "module.pyi" if path.endswith(".pyi") else "module.py"


def _parsed(output: bytes, paths: Mapping[str, str], lines: Mapping[str, Sequence[str]]) -> list[Diagnostic]:
    try:
        rows = json.loads(output)
        return [_diagnostic(row, paths, lines) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentModelError(
            "analyser_failed", f"ruff's output is not understood ({type(error).__name__}: {error}); use ruff>=0.14"
        ) from error


def _diagnostic(row: Mapping[str, Any], paths: Mapping[str, str], lines: Mapping[str, Sequence[str]]) -> Diagnostic:
    path = paths[str(Path(row["filename"]).resolve())]
    first, last = int(row["location"]["row"]), int(row["end_location"]["row"])
    if last > first and int(row["end_location"]["column"]) == 1:
        last -= 1  # the end is exclusive
    code = str(row["code"] or row.get("name") or "invalid-syntax")
    known, noqa = lines[path], int(row.get("noqa_row") or first)
    suppressed = any(_SUPPRESSED.search(line) for line in (*known[first - 1 : last], *known[noqa - 1 : noqa]))
    fix = "" if suppressed else edits_patch(path, known, row.get("fix"))
    if code == _DEBUGGER and not suppressed:
        fix = fix or removal_patch(path, known, first)
    return Diagnostic(
        path=path,
        code=code,
        first=first,
        last=last,
        message=str(row["message"]),
        suppressed=suppressed,
        fix=fix,
    )
