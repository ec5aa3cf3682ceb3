"""The wheel, as a stranger gets it: built, installed into an empty environment, used away from the checkout.

    python tests/wheel_check.py            build, install with pip (needs the package index), review a diff
    python tests/wheel_check.py --unpack   build and unpack only, on this environment's dependencies: a few seconds

Prints what it did; exits with 1 and the reason where something is wrong.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ("prompts/**/*", "evals/suites/*.toml", "evals/shipped/*.jsonl")
BUILT_FROM = ("madflow", "prompts", "evals", "pyproject.toml", "README.md", "LICENSE")

# The crews travel, and they come from the installed package rather than from a checkout.
CREWS = """
import pathlib, sys, madflow
from madflow.crews import list_crews, load_crew
from madflow.evals.suites import find_suites, list_suites, load_suite, shipped_data
from madflow.prompts import find_prompts
base = pathlib.Path(sys.argv[1]).resolve()
for place in (pathlib.Path(madflow.__file__), find_prompts(), find_suites(), shipped_data()):
    assert place.resolve().is_relative_to(base), f"{place} is not below {base}"
for name in list_crews():
    for protocol in ("answer", "proposal", "review"):
        assert load_crew(name).prompts(protocol).render_system(), name
print("crews:", *list_crews())
print("suites:", *(load_suite(path).name for path in list_suites().values()))
"""

DIFF = """\
diff --git a/pool.py b/pool.py
new file mode 100644
--- /dev/null
+++ b/pool.py
@@ -0,0 +1,7 @@
+import subprocess
+
+def run(name, seen=[]):
+    try:
+        subprocess.call("ls " + name, shell=True)
+    except:
+        pass
"""


def call(argv: list[str | Path], cwd: Path, *, codes: tuple[int, ...] = (0,), **env: str) -> str:
    """Run a command away from the checkout; its stdout. Raises SystemExit with its output for any other exit code."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MADFLOW", "VIRTUAL_ENV", "COV_"))}
    done = subprocess.run(argv, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(map(str, argv[:4]))} … exited with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel from a copy of what it is made of; the checkout stays as it is."""
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Every module, prompt, suite and shipped recording of the checkout is in the wheel, and nothing else is."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "madflow").rglob("*") if _belongs(p)}
    for pattern in DATA:
        wanted |= {f"madflow/_data/{p.relative_to(ROOT).as_posix()}" for p in ROOT.glob(pattern) if _belongs(p)}
    if inside != wanted:
        raise SystemExit(f"missing: {sorted(wanted - inside)}; too much: {sorted(inside - wanted)}")


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def review(python: Path, folder: Path) -> None:
    """`madflow review` on a diff that lies outside any checkout, with no key: the analysers find something."""
    away = folder / "elsewhere"
    away.mkdir()
    (away / "change.diff").write_text(DIFF, encoding="utf-8")
    call([python.parent / "madflow", "review", "change.diff", "--out", "proposal.json"], away, HOME=str(away))
    proposal = json.loads((away / "proposal.json").read_text(encoding="utf-8"))
    findings = proposal["content"]["findings"]
    if not findings:
        raise SystemExit(f"the review found nothing in a diff with planted defects: {proposal['decision']}")
    print(f"review: {proposal['decision']['result']}, {len(findings)} findings, {proposal['content']['verdict']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unpack", action="store_true", help="unpack the wheel instead of installing it")
    unpack = parser.parse_args().unpack
    with tempfile.TemporaryDirectory(prefix="madflow-wheel-") as name:
        folder = Path(name).resolve()
        wheel = build(folder)
        check_contents(wheel)
        print(f"wheel: {wheel.name}, {wheel.stat().st_size // 1024} KiB")
        home = folder / "installed"
        if unpack:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(home)
            print(call([sys.executable, "-c", CREWS, home], folder, PYTHONPATH=str(home)), end="")
            return
        call([sys.executable, "-m", "venv", home], folder)
        python = home / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        call([*pip, "--constraint", ROOT / "constraints.txt", wheel], folder)
        print(call([python, "-c", CREWS, home], folder), end="")
        review(python, folder)


if __name__ == "__main__":
    main()
