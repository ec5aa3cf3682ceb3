"""Files of a run: what is on the disk when a call returns, and what is said when it cannot be."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from madflow.errors import MadflowError
from madflow.evals.files import Lines, replace_file


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Files of this process do not grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_name_is_as_durable_as_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a file that is synced in a folder that is not: after a power cut the old one is back, or none."""
    synced: list[tuple[bool, bool]] = []
    real, path = os.fsync, tmp_path / "a.json"

    def watched(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    replace_file(path, "{}")
    assert synced == [(False, False), (True, True)]
    synced.clear()
    with Lines(tmp_path / "a.jsonl"):
        assert synced == [(True, True)]


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    """Catches: closing, which tries again to write what could not be written, ends with its own raw OSError."""
    path = tmp_path / "a.jsonl"
    with full_at(10), pytest.raises(MadflowError, match=r"a\.jsonl: cannot be written") as caught, Lines(path) as lines:
        lines.append("more than ten")
    assert caught.value.__notes__[0].startswith(f"{path}: cannot be written")
    with full_at(10):
        lines = Lines(path)
        for call in (lambda: lines.append("more than ten"), lines.close):
            with pytest.raises(MadflowError, match=r"a\.jsonl: cannot be written"):
                call()
