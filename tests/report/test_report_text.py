"""The tables of a report for a terminal."""

import pytest
from report_cases import crowded, empty, hostile, small
from rich.cells import cell_len

from madflow.errors import ConfigError
from madflow.report import text_tables
from madflow.report.reading import results_of


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize(
    "case", [empty, small, hostile, lambda: crowded(30, 1)], ids=["empty", "small", "hostile", "many"]
)
def test_no_line_is_wider_than_the_terminal(case, width: int) -> None:  # type: ignore[no-untyped-def]
    """Would catch a table that the terminal breaks into rubble, and text that a terminal acts on."""
    text = text_tables(case(), width=width, everything=True)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not {"\x1b", "\u202e", "\x00"} & set(text)


def test_what_it_says() -> None:
    """Would catch a target, comparison or measure that is left out, and names taken for markup."""
    case = small()
    case["arms"][0]["arm"] = "[bold]vote[/bold]"
    for one in case["measures"]:
        one["arm"] = one["arm"].replace("vote", "[bold]vote[/bold]")
    text = text_tables(case, width=160, everything=True)
    for part in (
        "1 of 4 targets met, 1 without data",
        "not measured",
        "0.5349",
        "accuracy ≥ 0.535",
        "that of vote ≥ 0.006",
        "+0.0092 [+0.0032, +0.0152]",
        "attack, clean: answers and cost",
        "[bold]vote[/bold]",
        "what the recordings hold",
        "oracle in round 1",
        "note: A note.",
        "cheap: token share ≤ 0.15: 0.149, yes",
        "token_share 0.1840 is not <= 0.15",
        "no data",
        "1,234 debates",
    ):
        assert part in text


def test_colour_is_asked_for() -> None:
    """Would catch escape sequences in a file, and none where they are wanted."""
    assert "\x1b[32m" in text_tables(results_of(small()), colour=True)
    assert "\x1b" not in text_tables(results_of(small()))


def test_a_terminal_too_narrow_is_refused() -> None:
    """Would catch tables of one letter a line."""
    with pytest.raises(ConfigError, match="60 columns"):
        text_tables(empty(), width=59)


def test_first_what_matters() -> None:
    """Would catch thousands of lines where the targets were asked for, and a main measure that is left out."""
    short = text_tables(small())
    assert "1 of 4 targets met, 1 without data" in short and "token share" in short and "0.1490" in short
    assert "the same questions drawn for both" not in short and "oracle" not in short
    few = empty() | {"measures": [one for one in small()["measures"] if one["arm"] == "recorded"]}
    assert "oracle in round 1" in text_tables(few), "a suite without accuracy shows what it has"
