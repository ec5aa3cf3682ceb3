"""The wheel holds everything that madflow needs at run time. `make release-check` installs it as well."""

import subprocess
import sys
from pathlib import Path


def test_crews_and_prompts_travel_in_the_wheel(tmp_path: Path) -> None:
    """Catches a prompt that is found only in a checkout, and a file that the build leaves out or should not take."""
    script = Path(__file__).with_name("wheel_check.py")
    argv = [sys.executable, str(script), "--unpack"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crews: analysers generic planning review" in done.stdout
