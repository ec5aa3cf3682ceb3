"""Style is a test: the house rules over every file of the tree, and over planted files that each rule must refuse."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import tidy_rules as rules
from tidy_rules import CODE_RULES, SHIPPED_RULES, Rule

import madflow

ROOT = Path(__file__).resolve().parent.parent
_TOP_LEVEL = """
    .ci .gitignore CHANGELOG.md CONTRIBUTING.md LICENSE Makefile README.md constraints.txt docs evals examples graphs
    langgraph.json madflow prompts pyproject.toml tests
"""
TOP_LEVEL = frozenset(_TOP_LEVEL.split())
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".cfg", ".diff", ".jsonl", ".sh", ""}
NOT_OURS = ("examples/pull_request/",)  # written to have defects

# (rule, file): what is not yet as it should be. Entries only leave; one that is not needed any more fails.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("no_machine_path", "tests/test_tidy.py"): "the planted file of that rule",
}


@cache
def tree() -> tuple[str, ...]:
    """Every file that is tracked or would be, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.splitlines()
    else:  # an unpacked archive: there is no git to ask
        names = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if not _generated(p.relative_to(ROOT))]
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def _generated(path: Path) -> bool:
    hidden = path.parts[0].startswith(".") and path.parts[0] not in TOP_LEVEL
    return hidden or "__pycache__" in path.parts or path.parts[0] in ("build", "dist")


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="strict" if name.endswith(".py") else "replace")


def python_files(*, shipped: bool = False) -> list[str]:
    names = [name for name in tree() if name.endswith(".py") and not name.startswith(NOT_OURS)]
    return [name for name in names if name.startswith("madflow/")] if shipped else names


def broken(rule: Rule, names: list[str]) -> dict[str, list[str]]:
    return {name: wrong for name in names if (wrong := rule(name, read(name)))}


def hold(rule: Rule, names: list[str]) -> None:
    """The rule holds in every file but the listed exceptions, and each of those still needs its entry."""
    wrong = broken(rule, names)
    excused = {file for name, file in EXCEPTIONS if name == rule.__name__}
    report = "\n".join(f"{name}:{line}" for name, lines in wrong.items() if name not in excused for line in lines)
    assert not report, f"{rule.__doc__}\n{report}"
    assert not excused - set(wrong), f"no longer needed in EXCEPTIONS: {sorted(excused - set(wrong))}"


@pytest.mark.parametrize("rule", SHIPPED_RULES, ids=lambda rule: rule.__name__)
def test_shipped_code(rule: Rule) -> None:
    hold(rule, python_files(shipped=True))


@pytest.mark.parametrize("rule", CODE_RULES, ids=lambda rule: rule.__name__)
def test_all_code(rule: Rule) -> None:
    hold(rule, python_files())


def test_no_file_knows_its_machine() -> None:
    hold(
        rules.no_machine_path, [name for name in tree() if Path(name).suffix in TEXT and not name.startswith(NOT_OURS)]
    )


def test_readme_and_pins() -> None:
    hold(rules.readme_length, ["README.md"])
    hold(rules.pins, ["constraints.txt"])


def test_the_top_level_is_what_the_layout_says() -> None:
    """Catches a file dropped at the root, where nobody looks for it."""
    made_by_demo = {"proposal.json"}
    assert {name.split("/")[0] for name in tree()} - made_by_demo <= TOP_LEVEL


def test_the_rules_see_the_tree() -> None:
    """Catches a file list that is empty, under which every rule would hold."""
    assert {"madflow/core/messages.py", "tests/test_tidy.py", "prompts/shared/system.md"} <= set(tree())
    assert {rules.room(name) for name in python_files(shipped=True)} >= {"core", "models", "debate"}


# One file that each rule must refuse, with what it says. The same file without the marked part must pass.
PLANTED: list[tuple[Rule, str, str, str]] = [
    (rules.floors, "madflow/core/x.py", "from ..ports import Clock", "core (floor 0) imports ports"),
    (rules.floors, "madflow/core/protocols/x.py", "from ...ports import Clock", "core (floor 0) imports ports"),
    (rules.floors, "madflow/models/x.py", "from madflow.debate.graph import y", "models (floor 2) imports debate"),
    (rules.floors, "madflow/models/x.py", "def f():\n    from ..ledger import y", "models (floor 2) imports ledger"),
    (rules.floors, "madflow/debate/x.py", "import madflow.review.y", "debate (floor 3) imports review"),
    (rules.floors, "madflow/errors.py", "from .core import y", "errors (floor 0) imports core"),
    (rules.floors, "madflow/review/x.py", "from .. import Debate", "review (floor 3) imports __init__"),
    (rules.floors, "madflow/shed/x.py", "", "room 'shed' has no floor"),
    (rules.sole_importers, "madflow/debate/x.py", "import litellm", "imports litellm"),
    (rules.sole_importers, "madflow/models/x.py", "def f():\n    from litellm import y", "imports litellm"),
    (rules.sole_importers, "madflow/debate/nodes.py", "from langgraph.types import Send", "imports langgraph"),
    (rules.sole_importers, "madflow/debate/x.py", "import apsw", "imports apsw"),
    (rules.pure_core, "madflow/core/x.py", "import random", "imports random"),
    (rules.pure_core, "madflow/core/x.py", "import os.path", "imports os"),
    (rules.pure_core, "madflow/core/x.py", "from time import sleep", "imports time"),
    (rules.pure_core, "madflow/core/x.py", "import asyncio", "imports asyncio"),
    (rules.pure_core, "madflow/core/x.py", "x = open('y')", "calls open()"),
    (rules.pure_core, "madflow/core/x.py", "x = datetime.now(UTC)", "calls now()"),
    (rules.pure_core, "madflow/core/x.py", "x = datetime.fromtimestamp(1)", "calls fromtimestamp()"),
    (rules.pure_core, "madflow/core/x.py", "x = hash('y')", "calls hash()"),
    (rules.pure_core, "madflow/core/x.py", "async def f(): ...", "not asynchronous"),
    (rules.sizes, "madflow/x.py", "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
    (rules.sizes, "madflow/x.py", "x = 1\n" * 501, "501 lines, the limit is 500"),
    (rules.sizes, "examples/x.py", "x = 1\n" * 41, "41 lines, the limit is 40"),
    (rules.no_prompt_text, "madflow/x.py", "x = 'You are a careful judge.'", "reads like a prompt"),
    (rules.no_prompt_text, "madflow/x.py", "x = f'{y} reply with JSON only'", "reads like a prompt"),
    (rules.no_prompt_text, "madflow/x.py", f"x = '{'weigh both sides ' * 20}'", "reads like a prompt"),
    (rules.no_prompt_text, "madflow/x.py", f"x = f'{'weigh both sides ' * 20}' + y", "reads like a prompt"),
    (rules.public_names, "madflow/x.py", "x = 1", "no __all__"),
    (rules.public_names, "madflow/models/__init__.py", "from .x import y", "no __all__"),
    (rules.public_names, "madflow/x.py", "__all__ = ['b', 'a']\na = b = 1", "not sorted"),
    (rules.public_names, "madflow/x.py", "__all__ = ['f', 'A']\nclass A: ...\ndef f(): ...", "not sorted"),
    (rules.public_names, "madflow/x.py", "__all__ = ['gone']", "not there: gone"),
    (rules.public_names, "madflow/x.py", "__all__ = []\ndef f(): ...", "lacks f"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept: raise", "bare except"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept Exception: pass", "neither raises"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept Exception as e:\n    x = None", "neither raises"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept (OSError, BaseException): x = 1", "neither raises"),
    (rules.no_swallowed_error, "x.py", "with contextlib.suppress(Exception): f()", "suppresses every error"),
    (rules.nothing_executed, "x.py", "eval(reply)", "calls eval()"),
    (rules.nothing_executed, "x.py", "exec(reply)", "calls exec()"),
    (rules.nothing_executed, "x.py", "os.system(cmd)", "calls system()"),
    (rules.nothing_executed, "x.py", "subprocess.run(cmd, shell=True)", "shell=True"),
    (rules.nothing_executed, "x.py", "import pickle", "imports pickle"),
    (rules.no_work_at_import, "madflow/x.py", "os.makedirs('y')", "runs at import"),
    (rules.no_work_at_import, "madflow/x.py", "os.environ['Y'] = '1'", "runs at import"),
    (rules.no_work_at_import, "madflow/x.py", "for x in y: z(x)", "runs at import"),
    (rules.no_patching, "tests/x.py", "from unittest.mock import patch", "imports unittest.mock.patch"),
    (rules.no_patching, "tests/x.py", "from unittest import mock", "imports unittest.mock"),
    (rules.no_patching, "tests/x.py", "def test_x(mocker): ...", "uses mocker"),
    (rules.no_marker, "madflow/x.py", "x = 1  # TODO later", "TODO"),
    (rules.no_machine_path, "x.md", "see `/tmp/x`", "/tmp/"),
    (rules.no_machine_path, "x.py", "x = '/home/me/x'", "/home/"),
    (rules.readme_length, "README.md", "\n" * 251, "251 lines"),
    (rules.pins, "constraints.txt", "madflow @ file:///x", "not name==version"),
    (rules.pins, "constraints.txt", "--extra-index-url https://example.com", "not name==version"),
    (rules.pins, "constraints.txt", "aiohttp>=3", "not name==version"),
]
ACCEPTED: list[tuple[Rule, str, str]] = [
    (rules.floors, "madflow/core/protocols/x.py", "from ...errors import ConfigError\nfrom ..state import State"),
    (rules.floors, "madflow/review/x.py", "from ..debate.run import y\nfrom ..models.x import z\nfrom .patch import p"),
    (rules.floors, "madflow/crews.py", "from .prompts import Prompts"),
    (rules.floors, "madflow/cli/x.py", "from .. import __version__"),
    (rules.sole_importers, "madflow/models/litellm_client.py", "import litellm"),
    (rules.sole_importers, "madflow/ledger/sqlite.py", "import apsw"),
    (rules.pure_core, "madflow/core/x.py", "import re\nx = datetime.fromtimestamp(1, UTC)\nBox.open(x)"),
    (rules.pure_core, "madflow/models/x.py", "import random"),
    (rules.sizes, "madflow/x.py", "def f():\n" + "    x = 1\n" * 69),
    (rules.no_prompt_text, "madflow/x.py", f'"""{"long words of a docstring " * 40}"""'),
    (rules.no_prompt_text, "madflow/x.py", f"SQL = 'CREATE TABLE x ({'a text, ' * 60} b)'"),
    (rules.no_prompt_text, "madflow/x.py", "raise ConfigError(f'{x}: give a model')"),
    (
        rules.public_names,
        "madflow/x.py",
        "__all__ = ['MAX', 'Axe', 'f']\nMAX = 1\nclass Axe: ...\ndef f(): ...\ndef _g(): ...",
    ),
    (rules.public_names, "madflow/__init__.py", "__all__ = ['Debate']\ndef __getattr__(name): ..."),
    (rules.public_names, "madflow/models/__init__.py", '"""Only words."""'),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept Exception as error: g(error)"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept Exception:\n    g()\n    raise"),
    (rules.no_swallowed_error, "x.py", "try: f()\nexcept KeyError: x = None"),
    (rules.nothing_executed, "x.py", "re.compile(x)\nsubprocess.run([x])"),
    (rules.no_work_at_import, "madflow/x.py", "import os\nX = frozenset('ab')\nif TYPE_CHECKING:\n    import y"),
    (rules.no_machine_path, "x.md", "prompts/work/x and https://example.com/home/x and a/tmp/b"),
    (rules.pins, "constraints.txt", "# pinned\naiohttp==3.14.5\ntrove-classifiers==2026.9.21.13"),
]


@pytest.mark.parametrize(("rule", "path", "text", "says"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_each_rule_refuses_what_it_is_for(rule: Rule, path: str, text: str, says: str) -> None:
    """Catches a rule that can no longer fail."""
    assert any(says in wrong for wrong in rule(path, text)), rule(path, text)


@pytest.mark.parametrize(("rule", "path", "text"), ACCEPTED, ids=lambda value: getattr(value, "__name__", None))
def test_no_rule_refuses_good_code(rule: Rule, path: str, text: str) -> None:
    """Catches a rule that is right by refusing everything."""
    assert rule(path, text) == []


def test_an_exception_that_is_not_needed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches exceptions that outlive their reason."""
    monkeypatch.setitem(EXCEPTIONS, ("no_patching", "tests/conftest.py"), "not needed")
    with pytest.raises(AssertionError, match=r"no longer needed in EXCEPTIONS: \['tests/conftest\.py'\]"):
        hold(rules.no_patching, ["tests/conftest.py"])


def test_the_front_door_has_at_most_twenty_names_and_each_opens() -> None:
    """Catches a lazy name that points nowhere, and a public face that grows without anyone deciding it."""
    names = getattr(madflow, "__all__", [])
    assert len(names) <= 20
    assert [name for name in names if getattr(madflow, name, None) is None] == []


@pytest.mark.parametrize("package", ["litellm", "langgraph", "openai", "aiohttp", "tiktoken", "apsw"])
def test_import_madflow_is_light(package: str) -> None:
    """Catches an eager import: a name of madflow that drags a whole provider library in."""
    code = f"import sys, madflow; sys.exit({package!r} in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
