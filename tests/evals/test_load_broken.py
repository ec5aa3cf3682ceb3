"""Files that are broken or made to break the reader: each is refused in one line that names file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madflow.errors import ConfigError
from madflow.evals import load as loading
from madflow.evals.ensembles import load_reviews
from madflow.evals.load import load_recorded
from madflow.evals.predict import predict

ROW = {"question": "How many?", "agents": [{"id": "a", "rounds": ["It is 3."]}]}
PULL = {"pr": "1", "repo": "r", "golden": [], "reviews": {}}


@pytest.mark.parametrize(("load", "row"), [(load_recorded, ROW), (load_reviews, PULL)])
def test_a_broken_file_is_named(load: Callable[[Path], Any], row: dict[str, Any], tmp_path: Path) -> None:
    """Catches a traceback of zlib, of the JSON parser or of a file that is not there, in place of file and line."""
    line = json.dumps(row).encode() + b"\n"
    whole = gzip.compress(line)
    packed, plain = tmp_path / "x.jsonl.gz", tmp_path / "y.jsonl"
    for broken in (b"", whole[:10] + b"\xff" * 20, whole[:-9], whole[:-6] + b"\x00" * 6, b"no gzip"):
        packed.write_bytes(broken)
        with pytest.raises(ConfigError, match=r"^x\.jsonl\.gz:[12] cannot be read"):
            load(packed)
    plain.write_bytes(line + b'{"meta": ' + b"[" * 100 + b"]" * 100 + b"}")
    with pytest.raises(ConfigError, match=r"^y\.jsonl:2 is nested deeper than 100 levels; flatten it"):
        load(plain)
    for bad in (b"[" * 200_000, b"{", b"\xff", b"9" * 5_000):
        plain.write_bytes(line + bad)
        with pytest.raises(ConfigError, match=r"^y\.jsonl:2 cannot be read"):
            load(plain)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"gold": "A", "gold": "B", "agents": [{"rounds": ["x"]}]}', "gold"),
        ('{"agents": [{"rounds": ["x"], "id": "a", "id": "a"}]}', "id"),
        ('{"agents": [{"rounds": ["x"]}], "options": {"A": "one", "B": "two", "A": "two"}}', "A"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(row: str, key: str, tmp_path: Path) -> None:
    """Catches the last of two golds that is taken as if there were no other."""
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW) + "\n" + row)
    with pytest.raises(ConfigError, match=rf"^x\.jsonl:2 .*'{key}' is there twice"):
        load_recorded(tmp_path)


HALF = "so \ud83d"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        *((ROW | {name: HALF}, name) for name in ("task_id", "run", "dataset", "question", "gold", "condition")),
        (ROW | {"options": ["one", HALF]}, "options"),
        (ROW | {"options": {"A": "one", "B": HALF}}, "options"),
        ({"agents": [{"id": HALF, "rounds": ["x"]}]}, "agents[0] field id"),
        ({"agents": [{"model": HALF, "rounds": ["x"]}]}, "agents[0] field model"),
        ({"agents": [{"rounds": ["x"]}, {"rounds": ["x", HALF]}]}, "agents[1] field rounds"),
        ({"agents": [{"rounds": ["x"], "answers": [HALF]}]}, "agents[0] field answers"),
    ],
)
def test_half_a_surrogate_pair_is_refused(row: dict[str, Any], field: str, tmp_path: Path) -> None:
    """Catches a text that no result can be written with, found when all the work is done."""
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(row))
    with pytest.raises(ConfigError) as caught:
        load_recorded(tmp_path)
    assert str(caught.value).startswith(f"x.jsonl:2 field {field}: half a surrogate pair at character 4 ('\\ud83d')")


def test_a_whole_pair_is_read(tmp_path: Path) -> None:
    """Catches a sign beyond the basic plane, which JSON may write as two halves, that is refused."""
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW | {"question": "\U0001f600?"}))
    assert load_recorded(tmp_path)[0].prompt == "\U0001f600?"


def test_rows_are_counted_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a bound that is looked at when everything is in the memory: here the line behind it cannot be read."""
    monkeypatch.setattr(loading, "ROWS_MAX", 3)
    line = json.dumps(ROW) + "\n"
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl").write_text(line * 2)
    assert len(load_recorded(tmp_path)) == 3
    (tmp_path / "b.jsonl").write_text(line * 3 + "{")
    with pytest.raises(ConfigError, match=r"^b\.jsonl:3 is one row more than a load may have, 3; load fewer files"):
        load_recorded(tmp_path)


def test_as_deep_as_a_line_may_be(tmp_path: Path) -> None:
    """Catches: a bound that refuses what it allows, and text full of braces that counts as depth."""
    meta = json.loads("[" * 98 + "]" * 98)
    (tmp_path / "x.jsonl").write_text(json.dumps(ROW | {"meta": {"deep": meta}, "question": "{[" * 500}))
    assert load_recorded(tmp_path)[0].meta == {"deep": meta}


def test_a_blank_question_is_none(tmp_path: Path) -> None:
    """Catches: blanks in place of a question, which no debate can be held on, found when all is read."""
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW | {"question": " ", "task_id": "t"}).encode()))
    assert load_recorded(tmp_path)[0].prompt == ""
    assert [one["answer"] for one in predict(tmp_path, "vote")] == ["3"]


def test_predictions_of_nothing_are_refused(tmp_path: Path) -> None:
    """Catches: an empty file of predictions, and success, for a folder whose files hold no row."""
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b"\n\n"))
    with pytest.raises(ConfigError, match=r"^no debates are in .*x\.jsonl\.gz"):
        predict(tmp_path, "vote")
