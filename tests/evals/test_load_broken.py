"""Files that are broken or made to break the reader: each is refused in one line that names file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madflow.errors import ConfigError
from madflow.evals.ensembles import load_reviews
from madflow.evals.load import load_recorded

ROW = {"question": "How many?", "agents": [{"id": "a", "rounds": ["It is 3."]}]}
PULL = {"pr": "1", "repo": "r", "golden": [], "reviews": {}}


@pytest.mark.parametrize(("load", "row"), [(load_recorded, ROW), (load_reviews, PULL)])
def test_a_broken_file_is_named(load: Callable[[Path], Any], row: dict[str, Any], tmp_path: Path) -> None:
    """Catches a traceback of zlib, of the JSON parser or of a file that is not there, in place of file and line."""
    line = json.dumps(row).encode() + b"\n"
    whole = gzip.compress(line)
    packed, plain = tmp_path / "x.jsonl.gz", tmp_path / "y.jsonl"
    for broken in (whole[:20] + b"\xff" * 8 + whole[28:], whole[:-9], whole[:-6] + b"\x00" * 6, b"no gzip"):
        packed.write_bytes(broken)
        with pytest.raises(ConfigError, match=r"^x\.jsonl\.gz:[12] cannot be read"):
            load(packed)
    for bad in (b"[" * 200_000, b"{", b"\xff", b"9" * 5_000):
        plain.write_bytes(line + bad)
        with pytest.raises(ConfigError, match=r"^y\.jsonl:2 cannot be read"):
            load(plain)
