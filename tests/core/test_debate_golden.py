"""Debates as readable scripts with golden output (tests/golden/*.txt).

`MADFLOW_REWRITE=1 pytest tests/core/test_debate_golden.py` writes the output anew: read the difference before you
commit it. Catches any change of what follows what, of who is asked, of how a vote is counted and why a debate stopped.
"""

import os
from pathlib import Path

import pytest
from debate_script import run_script

SCRIPTS = sorted((Path(__file__).parents[1] / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_has_its_golden_output(path: Path) -> None:
    text = path.read_text("utf-8")
    found = run_script(text)
    if os.environ.get("MADFLOW_REWRITE") == "1":
        path.write_text(found, "utf-8")
        return
    assert found == text, f"{path.name} differs; MADFLOW_REWRITE=1 rewrites it, if the change is meant"


def test_there_are_scripts_for_each_protocol() -> None:
    assert {"answer", "proposal"} <= {path.stem for path in SCRIPTS}
