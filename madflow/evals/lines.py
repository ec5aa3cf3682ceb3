"""Files of JSON lines, plain or gzipped, read one bounded line at a time."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from ..errors import ConfigError

__all__ = ["DEPTH_MAX", "LINE_BYTES_MAX", "json_lines", "opened"]

LINE_BYTES_MAX: Final = 16_000_000
DEPTH_MAX: Final = 100  # of arrays and objects in each other: far below what Python's own recursion bears


def opened(file: Path) -> BinaryIO:
    """The file's bytes, unpacked where its name ends in .gz.

    Raises:
        EOFError: it ends in .gz and holds nothing at all, which no archive does.
    """
    if not file.name.endswith(".gz"):
        return file.open("rb")
    if file.stat().st_size == 0:
        raise EOFError("0 bytes are no gzip archive")
    return cast(BinaryIO, gzip.open(file, "rb"))


def json_lines(file: Path, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[tuple[int, Any]]:
    """(1-based number, value) of each line that is not blank. A byte-order mark and CRLF are taken as they come.

    Raises:
        ConfigError: a line that is longer than `line_bytes_max`, no UTF-8, no JSON, nested deeper than `DEPTH_MAX` or
            has a key twice in one object; a file that cannot be opened or unpacked. The message names file and line.
    """
    number = 1
    try:
        with opened(file) as stream:
            while raw := stream.readline(line_bytes_max + 1):
                if len(raw) > line_bytes_max:
                    raise ConfigError(f"{file.name}:{number} is longer than {line_bytes_max} bytes; split the row")
                if raw.strip():
                    value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
                    if _deeper(value, DEPTH_MAX):
                        raise ConfigError(f"{file.name}:{number} is nested deeper than {DEPTH_MAX} levels; flatten it")
                    yield number, value
                number += 1
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        where = f"{file.name}:{number}"
        raise ConfigError(f"{where} cannot be read ({error}); is it whole, one JSON object a line, UTF-8?") from error


def _deeper(value: Any, depth: int) -> bool:
    """Whether arrays and objects stand deeper in each other than `depth`."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of a key that is there twice, nobody knows which value was meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        again, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"{again[:40]!a} is there twice in one object; keep one")
    return made
