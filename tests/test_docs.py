"""Every block of README.md and docs/ that a reader may type is run, offline, in a copy of the examples.

    ```python              a whole script of its own
    ```bash                run as one script that must end with 0
    ```console             each `$ command` on its own; `> ` continues one, `# exit 3` at its end expects that code.
                           Lines below a command are its output: each must appear, in this order; … is anything
    ```LANG file=NAME      written to NAME, for the blocks that follow; not run

The blocks of one file run in order in one folder. A block that cannot run says why, directly above its fence:
`<!-- not run: needs a key -->`.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
RUN = ("python", "bash", "console")
NOT_MARKED = ("sh", "shell", "py", "python3", "zsh", "shell-session", "pycon")

_FENCE = re.compile(
    r"(?P<above>^[^\n]*\n)?^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S
)
_MARKER = re.compile(r"<!--\s*not run\b:?\s*(?P<why>.*?)\s*-->")
_EXIT = re.compile(r"\s+# exit (\d+)$")


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    file: str
    text: str
    why_not: str | None


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of one document, with their marker."""
    found = []
    for match in _FENCE.finditer(text):
        words = match["info"].split()
        marker = _MARKER.search(match["above"] or "")
        file = next((word.removeprefix("file=") for word in words if word.startswith("file=")), "")
        found.append(
            Block(
                line=text.count("\n", 0, match.start("info")) + 1,
                language=words[0] if words else "",
                file=file,
                text=textwrap.dedent(match["body"]),
                why_not=marker["why"] if marker else None,
            )
        )
    return found


def commands(text: str) -> list[tuple[str, int, list[str]]]:
    """(command, exit code, expected output lines) of a console block."""
    found: list[tuple[str, int, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            code = _EXIT.search(line)
            found.append((_EXIT.sub("", line[2:]), int(code[1]) if code else 0, []))
        elif line.startswith("> ") and found and not found[-1][2]:
            command, exit_code, _ = found[-1]
            code = _EXIT.search(line)
            found[-1] = (f"{command}\n{_EXIT.sub('', line[2:])}", int(code[1]) if code else exit_code, [])
        elif line.strip():
            assert found, f"output before the first `$ command`: {line!r}"
            found[-1][2].append(line)
    return found


def environment(folder: Path) -> dict[str, str]:
    """No key, no network: whatever looks for a proxy finds a closed port."""
    closed = "http://127.0.0.1:9"
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "HTTP_PROXY": closed,
        "HTTPS_PROXY": closed,
        "NO_PROXY": "localhost,127.0.0.1",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }


def run(argv: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def said_in_order(expected: list[str], output: str) -> str | None:
    """The first expected line that `output` lacks, in order, or None. Outer white space does not count."""
    lines = iter(line.strip() for line in output.splitlines())
    for want in expected:
        if want.strip() in ("…", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in want.strip().split("…")))
        if not any(pattern.fullmatch(line) for line in lines):
            return want
    return None


def perform(block: Block, folder: Path) -> str:
    """Run one block; what went wrong, or nothing."""
    if block.why_not is not None:
        return "" if block.why_not else "`not run` needs its reason: <!-- not run: REASON -->"
    if block.language in NOT_MARKED:
        return f"write {block.language} as one of {', '.join(RUN)}, so that it is run"
    if block.file:
        target = (folder / block.file).resolve()
        if not target.is_relative_to(folder.resolve()):
            return f"file={block.file} leaves the folder"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
        return ""
    if block.language == "python":
        (folder / "_block.py").write_text(block.text, encoding="utf-8")
        code, output = run([sys.executable, "_block.py"], folder)
        return f"exit {code}\n{output}" if code else ""
    if block.language == "bash":
        code, output = run(["bash", "-euo", "pipefail", "-c", block.text], folder)
        return f"exit {code}\n{output}" if code else ""
    if block.language == "console":
        for command, expected_code, expected in commands(block.text):
            code, output = run(["bash", "-uo", "pipefail", "-c", command], folder)
            if code != expected_code:
                return f"$ {command}\nexit {code}, not {expected_code}\n{output}"
            if (missing := said_in_order(expected, output)) is not None:
                return f"$ {command}\ndid not say (in this place): {missing}\nit said:\n{output}"
    return ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has: the examples beside them."""
    shutil.copytree(ROOT / "examples", tmp_path / "here" / "examples")
    return tmp_path / "here"


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_reader_may_type_works(document: Path, folder: Path) -> None:
    """Catches docs that the code has left behind."""
    text = document.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, flags=re.M)) == 2 * len(blocks(text)), f"{document.name}: a fence is open"
    for block in blocks(text):
        wrong = perform(block, folder)
        assert not wrong, f"{document.relative_to(ROOT)}:{block.line}: {wrong}"


# ---- the runner itself can fail

PLANTED = [
    ("```python\nraise SystemExit(2)\n```", "exit 2"),
    ("```python\nimport socket\nsocket.create_connection(('127.0.0.1', 9))\n```", "ConnectionRefusedError"),
    ("```bash\nfalse\ntrue\n```", "exit 1"),
    ("```console\n$ false\n```", "exit 1, not 0"),
    ("```console\n$ true  # exit 3\n```", "exit 0, not 3"),
    ("```console\n$ echo one\ntwo\n```", "did not say (in this place): two"),
    ("```console\n$ printf 'b\\na\\n'\na\nb\n```", "did not say (in this place): b"),
    ("```console\n$ echo one two\none\n```", "did not say"),
    ("- a list\n\n  ```bash\n  false\n  ```\n", "exit 1"),
    ("```sh\ntrue\n```", "write sh as one of"),
    ("<!-- not run -->\n```bash\ntrue\n```", "needs its reason"),
    ("```toml file=../x\n```", "leaves the folder"),
]
ACCEPTED = [
    "```python\nfrom madflow.crews import list_crews\nassert 'review' in list_crews()\n```",
    "```toml file=mine/x.toml\na = 1\n```\n\n```console\n$ cat mine/x.toml\na = 1\n```",
    "```console\n$ echo one; echo 2 s; echo three\none\n… s\n```",
    "```console\n$ echo one \\\n> two\none two\n$ (exit 3)  # exit 3\n```",
    "<!-- not run: needs a key -->\n```bash\nfalse\n```",
    "```json\n{}\n```\n\n```\nplain\n```",
    '```console\n$ test -z "${OPENAI_API_KEY:-}" && test -d examples\n```',
]


def _first_wrong(text: str, folder: Path) -> str:
    return next((wrong for block in blocks(text) if (wrong := perform(block, folder))), "")


@pytest.mark.parametrize(("text", "says"), PLANTED)
def test_a_broken_block_fails(text: str, says: str, tmp_path: Path) -> None:
    """Catches a runner that skips what it does not understand."""
    assert says in _first_wrong(text, tmp_path)


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_good_block_passes(text: str, folder: Path) -> None:
    """Catches a runner that refuses everything."""
    assert blocks(text)
    assert _first_wrong(text, folder) == ""
