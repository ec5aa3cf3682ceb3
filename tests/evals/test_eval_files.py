"""Files of a run: what is on the disk when a call returns, and what is said when it cannot be."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from madflow.errors import ConfigError, MadflowError
from madflow.evals.files import Lines, replace_file, sole_writer
from madflow.evals.work import Failure, Item, Store


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


def test_the_first_error_of_a_store_is_told(tmp_path: Path) -> None:
    """Catches: closing heard in place of what went wrong before, files left open behind the first that fails."""
    one, other = (Item(arm, arm, ()) for arm in ("one", "other"))
    store = Store(tmp_path, "code" * 4)
    with full_at(10):
        for item in (one, other):
            with pytest.raises(MadflowError, match=rf"{item.arm}\.jsonl: cannot be written"):
                store.put(item, Failure("more than ten"))
        with pytest.raises(MadflowError, match=r"one\.jsonl: cannot be written") as caught:
            store.close()
    assert [note.split(": ")[0].rsplit("/")[-1] for note in caught.value.__notes__] == ["other.jsonl"]
    with full_at(10), pytest.raises(KeyError, match="went wrong first") as first, Store(tmp_path, "code" * 4) as store:
        with pytest.raises(MadflowError):
            store.put(one, Failure("more than ten"))
        raise KeyError("went wrong first")
    assert [note.split(": ")[0].rsplit("/")[-1] for note in first.value.__notes__] == ["one.jsonl"]
    with Store(tmp_path, "code" * 4) as store:
        store.put(one, Failure("more than ten"))
    assert store.get(one) is None


def test_a_folder_that_cannot_be_held_is_named(tmp_path: Path) -> None:
    """Catches: a traceback where the lock cannot be opened."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written to \(Is a directory\)"), sole_writer(tmp_path):
        pass
