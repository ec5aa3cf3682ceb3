"""The reasons that docs/explanation/gate.md lists are those that the gate can give."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("core/gate.py", "core/permits.py", "commit/known.py")
GIVEN = (
    r'Reason\(\s*"(\w+)"',
    r'yield\s+\(?\s*"(\w+)"',
    r'"(\w+_not_allowed)"',
    r'"(protected|bad_program|votes_differ|decision_differs)"',
    r'code = .*"(\w+)".*"(\w+)".*"(\w+)".*"(\w+)".*"(\w+)"',
    r'code = "(\w+)" if .* else "(\w+)"',
)
NO_CODES = {"quorum_failed", "more"}  # a result that a code stands for; and the end of a long list


def test_every_reason_is_in_the_docs() -> None:
    """Would catch a reason that a reader looks up in vain, and one that is gone."""
    text = "\n".join((ROOT / "madflow" / name).read_text() for name in SOURCES)
    found = {word for pattern in GIVEN for match in re.finditer(pattern, text) for word in match.groups()}
    page = (ROOT / "docs" / "explanation" / "gate.md").read_text()
    assert set(re.findall(r"`([a-z_]+)`", page.partition("## Reasons")[2])) == found - NO_CODES
