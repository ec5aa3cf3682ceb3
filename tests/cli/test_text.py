"""Text of other origin: what a terminal would act on never gets through, and JSON loses nothing."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madflow.cli.output import write_atomically
from madflow.cli.text import clean, json_text, one_line
from madflow.errors import MadflowError

ANY = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=60)


@given(ANY)
@example("\x1b[31mred")
@example("\x1b]0;title\x07after")
@example("\x1b]8;;http://x\x1b\\link")
@example("\x9b2Jgone")
@example("\x1bPq\x1b\\")
@example("\x1b\x1b[[31m")
@example("a\rb")
@example("\u202egnp.exe")
def test_nothing_a_terminal_acts_on(text: str) -> None:
    """Would catch a sequence that is taken out so that another one forms, or a control character that stays."""
    shown = clean(text)
    assert {unicodedata.category(char) for char in shown.replace("\n", "")} & {"Cc", "Cs"} == set()
    assert "\u202e" not in shown
    assert clean(shown) == shown
    assert "\n" not in one_line(text)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mx", "x"),
        ("plain — naïve 日本 👩‍👩‍👧", "plain — naïve 日本 👩‍👩‍👧"),
        ("a\tb\r\nc", "a    b\nc"),
        ("a\x00b", "a\ufffdb"),
    ],
)
def test_what_is_left(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.recursive(st.none() | st.integers() | ANY, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
@example(["\x9b\x7f\u202e\ud800\u2028"])
def test_json_loses_nothing(data: object) -> None:
    text = json_text(data)
    assert json.loads(text) == data
    text.encode()
    assert {unicodedata.category(char) for char in text.replace("\n", "")} & {"Cc", "Cs"} == set()


def test_one_line_is_bounded() -> None:
    assert one_line("x" * 300) == "x" * 199 + "…"


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """Would catch a half-written proposal, a mode that changes, a temporary file that stays."""
    target = tmp_path / "p.json"
    write_atomically(target, "one\n")
    target.chmod(0o640)
    write_atomically(target, "two\n")
    assert target.read_text() == "two\n"
    assert target.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.json"
    link.symlink_to(target)
    write_atomically(link, "three\n")
    assert link.is_symlink()
    assert target.read_text() == "three\n"
    with pytest.raises(MadflowError, match="cannot be written"):
        write_atomically(tmp_path / "no" / "p.json", "x")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(MadflowError, match="run `madflow replay"):
        write_atomically(folder, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link.json", "p.json"]
