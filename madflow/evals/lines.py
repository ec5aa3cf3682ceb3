"""Files of JSON lines, plain or gzipped, read one bounded line at a time."""

from __future__ import annotations

import gzip
import json
import zlib
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
        ConfigError: a line that is longer than `line_bytes_max`, no UTF-8 or no JSON; a file that cannot be opened
            or unpacked. The message names file and line.
    """
    number = 1
    try:
        with opened(file) as stream:
            while raw := stream.readline(line_bytes_max + 1):
                if len(raw) > line_bytes_max:
                    raise ConfigError(f"{file.name}:{number} is longer than {line_bytes_max} bytes; split the row")
                if raw.strip():
                    yield number, json.loads(raw.decode("utf-8-sig"))
                number += 1
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        where = f"{file.name}:{number}"
        raise ConfigError(f"{where} cannot be read ({error}); is it whole, one JSON object a line, UTF-8?") from error
