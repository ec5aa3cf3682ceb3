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

__all__ = ["LINE_BYTES_MAX", "json_lines", "opened"]

LINE_BYTES_MAX: Final = 16_000_000


def opened(file: Path) -> BinaryIO:
    """The file's bytes, unpacked where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(file, "rb")) if file.name.endswith(".gz") else file.open("rb")


def json_lines(file: Path, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[tuple[int, Any]]:
    """(1-based number, value) of each line that is not blank. A byte-order mark and CRLF are taken as they come.

    Raises:
        ConfigError: a line that is longer than `line_bytes_max`, no UTF-8, no JSON or has a key twice in one object; a
            file that cannot be opened or unpacked. The message names file and line.
    """
    number = 1
    try:
        with opened(file) as stream:
            while raw := stream.readline(line_bytes_max + 1):
                if len(raw) > line_bytes_max:
                    raise ConfigError(f"{file.name}:{number} is longer than {line_bytes_max} bytes; split the row")
                if raw.strip():
                    yield number, json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
                number += 1
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        where = f"{file.name}:{number}"
        raise ConfigError(f"{where} cannot be read ({error}); is it whole, one JSON object a line, UTF-8?") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of a key that is there twice, nobody knows which value was meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        again, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"{again[:40]!a} is there twice in one object; keep one")
    return made
