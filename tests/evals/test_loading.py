"""Loading with several processes: the same rows, in parts small enough to be seen going by."""

from __future__ import annotations

from pathlib import Path

import pytest
from eval_rows import debates, write_folder, write_rows

from madflow.errors import ConfigError
from madflow.evals import load, loading
from madflow.evals.load import load_recorded, stripped
from madflow.evals.loading import load_files
from madflow.evals.pool import Progress
from madflow.evals.predict import predict


def test_rows_do_not_depend_on_how_a_file_is_cut_and_who_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: seats named part by part, parts put together as they are done, letters told from one part only."""
    paths = sorted(write_folder(tmp_path).iterdir())
    whole = [load_recorded(path) for path in paths]
    assert load_files(paths) == whole
    monkeypatch.setattr(load, "_PART_CHARS", 1)
    assert load_files(paths) == whole
    assert load_files(paths, workers=2) == whole


def test_reading_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: half a minute without a sign, and one large file that counts as one step."""
    monkeypatch.setattr(load, "_PART_CHARS", 1)
    path = write_rows(tmp_path / "made.jsonl.gz", debates())
    seen: list[Progress] = []
    load_files([path], on_progress=seen.append)
    assert seen[0] == Progress(0, 1, "opening made.jsonl.gz")
    assert [one.done for one in seen[1:]] == list(range(len(debates()) + 1))
    assert {one.total for one in seen[1:]} == {len(debates())}
    seen.clear()
    predict(tmp_path, "vote", on_progress=seen.append)
    assert Progress(len(debates()), len(debates()), "reading made.jsonl.gz") in seen


def test_rows_of_all_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a bound for each file, which many files together are above."""
    paths = sorted(write_folder(tmp_path).iterdir())
    monkeypatch.setattr(loading, "ROWS_MAX", len(debates()) + 1)
    with pytest.raises(ConfigError, match=r"^made-sums\.jsonl\.gz:2 is one row more than a load may have"):
        load_files(paths)


def test_what_only_scoring_may_know_is_not_even_checked_without_it(tmp_path: Path) -> None:
    """Catches: predictions refused, or changed, by a gold, a condition or a flag that nobody is to look at."""
    rows = debates()
    blind = predict(write_rows(tmp_path / "a" / "made.jsonl.gz", [stripped(row) for row in rows]), "reliable")
    for row in rows:
        row.update(gold="E", condition=["none"], correct=1)
        row["agents"][0]["adversary"] = "who knows"
    path = write_rows(tmp_path / "b" / "made.jsonl.gz", rows)
    assert predict(path, "reliable") == blind
    with pytest.raises(ConfigError, match=r"^made\.jsonl\.gz:1 field"):
        load_recorded(path)
