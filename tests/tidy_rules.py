"""House rules as functions: each takes a file's path and text and returns what is wrong, as `line: message`.

test_tidy.py runs them over the tree, and over small planted files that each rule must refuse.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import PurePosixPath

Rule = Callable[[str, str], list[str]]

LINES_MAX, FUNCTION_LINES_MAX, EXAMPLE_LINES_MAX, README_LINES_MAX = 500, 70, 40, 250
PROSE_CHARS_MAX = 300

# The floor of each room of madflow/. A new room is entered here, and in the picture in docs/explanation.
FLOORS = {
    "errors": 0,
    "core": 0,
    "held": 1,
    "ports": 1,
    "clock": 2,
    "crews": 2,
    "effects": 2,
    "election": 2,
    "ledger": 2,
    "models": 2,
    "prompts": 2,
    "commit": 3,
    "debate": 3,
    "evals": 3,
    "panel": 3,
    "review": 3,
    "testing": 3,
    "cli": 4,
    "saga": 4,
    "workflow": 4,
    "report": 4,
    "server": 4,
    "__init__": 5,
    "__main__": 5,
}
# (importer, imported) on one floor; nothing else crosses sideways.
SIDEWAYS = {
    ("core", "errors"),
    ("cli", "report"),
    ("cli", "server"),
    ("crews", "prompts"),
    ("evals", "debate"),
    ("evals", "testing"),
    ("review", "debate"),
}
# Each third-party package that is hidden behind one door.
SOLE_IMPORTERS = {
    "aiohttp": ("madflow/models/", "madflow/testing/", "madflow/effects/http.py"),
    "apsw": ("madflow/ledger/", "madflow/effects/sql.py", "madflow/testing/disk.py"),
    "langgraph": ("madflow/debate/graph.py", "madflow/commit/graph.py", "madflow/workflow.py"),
    "litellm": ("madflow/models/litellm_client.py",),
    "psycopg": ("madflow/ledger/postgres.py",),
    "tenacity": ("madflow/models/retry.py",),
    "tiktoken": ("madflow/models/tokens.py",),
    "unidiff": ("madflow/review/patch.py",),
}
_PURE_MODULES = """
    __future__ abc bisect collections dataclasses datetime decimal difflib enum fractions functools hashlib heapq
    itertools json math operator re string types typing unicodedata pydantic pydantic_core rfc8785
"""
CORE_MAY_IMPORT = frozenset(_PURE_MODULES.split())
IMPURE_BUILTINS = {"open", "input", "print", "hash", "id"}
IMPURE_METHODS = {"now", "utcnow", "today", "read_text", "write_text"}
_SQL_OR_MARKUP = re.compile(r"\s*(CREATE|SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN|WITH|<|--)\b|\s*<")
_ADDRESSES_A_MODEL = re.compile(
    r"\b(You are (a|an|the|seat)|Your (task|role|turn)|Reply with|Respond with|Think step)\b", re.I
)
_MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|tmp|opt|root|home|Users|mnt)(?:/|\b)")
_MARKER = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")


@lru_cache(maxsize=512)
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def room(path: str) -> str:
    """The room of a file below madflow/: its folder or module name."""
    return PurePosixPath(path).parts[1].removesuffix(".py")


def _in(path: str, *folders: str) -> bool:
    return path.startswith(tuple(f"{folder}/" for folder in folders))


def _imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import, relative ones resolved; `from a import b` gives a.b."""
    package = PurePosixPath(path).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def floors(path: str, text: str) -> list[str]:
    """Imports only go down; rooms on one floor do not know each other."""
    if not _in(path, "madflow"):
        return []
    here, found = room(path), []
    if here not in FLOORS:
        return [f"1: room {here!r} has no floor; enter it in FLOORS"]
    for line, name in _imports(path, _parse(text)):
        parts = name.split(".")
        if parts[0] != "madflow" or len(parts) == 1 or parts[1] == "__version__":
            continue
        there = parts[1] if parts[1] in FLOORS else "__init__"
        up = FLOORS[there] > FLOORS[here]
        across = FLOORS[there] == FLOORS[here] and here != there and (here, there) not in SIDEWAYS
        if up or across:
            found.append(f"{line}: {here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]})")
    return found


def sole_importers(path: str, text: str) -> list[str]:
    """A package behind one door is imported there only."""
    if not _in(path, "madflow"):
        return []
    found = []
    for line, name in _imports(path, _parse(text)):
        doors = SOLE_IMPORTERS.get(name.split(".")[0])
        if doors and not path.startswith(doors):
            found.append(f"{line}: imports {name.split('.')[0]}, which only {', '.join(doors)} may")
    return found


def pure_core(path: str, text: str) -> list[str]:
    """Floor 0 has no clock, randomness, files, sockets, processes or asyncio, and no hash that differs between runs."""
    if not _in(path, "madflow/core"):
        return []
    tree, found = _parse(text), []
    for line, name in _imports(path, tree):
        top = name.split(".")[0]
        if top not in CORE_MAY_IMPORT and top != "madflow":
            found.append(f"{line}: core imports {top}")
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append(f"{node.lineno}: core is not asynchronous")
        if isinstance(node, ast.Call):
            name, builtin = _called(node), isinstance(node.func, ast.Name)
            local_time = name == "fromtimestamp" and len(node.args) + len(node.keywords) < 2
            if name in (IMPURE_BUILTINS if builtin else IMPURE_METHODS) or local_time:
                found.append(f"{node.lineno}: core calls {name}()")
    return found


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def sizes(path: str, text: str) -> list[str]:
    """Files and functions that one can hold in the head."""
    lines = text.count("\n")
    most = EXAMPLE_LINES_MAX if _in(path, "examples") and path.count("/") == 1 else LINES_MAX
    found = [f"1: {lines} lines, the limit is {most}"] if lines > most else []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{node.lineno}: {node.name} has {length} lines, the limit is {FUNCTION_LINES_MAX}")
    return found


def no_prompt_text(path: str, text: str) -> list[str]:
    """What a model reads stands in prompts/, not in code."""
    if not _in(path, "madflow"):
        return []
    tree = _parse(text)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                part.value for part in node.values if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
            said = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            said = node.value
        else:
            continue
        prose = len(said) > PROSE_CHARS_MAX and said.count(" ") > len(said) // 12 and not _SQL_OR_MARKUP.match(said)
        if prose or _ADDRESSES_A_MODEL.search(said):
            found.append(f"{node.lineno}: reads like a prompt ({len(said)} characters): {said[:40]!r}")
    return found


def public_names(path: str, text: str) -> list[str]:
    """`__all__` is there, sorted, complete for what is defined, and true."""
    name = PurePosixPath(path).name
    if not _in(path, "madflow") or (name.startswith("_") and name != "__init__.py") or not text.strip():
        return []
    tree = _parse(text)
    listed: list[str] | None = None
    defined, bound = set(), set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                bound.add(inner.id)
            elif isinstance(inner, ast.alias):
                bound.add((inner.asname or inner.name).split(".")[0])
        if isinstance(node, ast.Assign) and _assigns(node, "__all__"):
            listed = list(ast.literal_eval(node.value))
    if listed is None:
        only_doc = all(isinstance(node, ast.Expr) or _assigns(node, "__version__") for node in tree.body)
        return [] if name == "__init__.py" and only_doc else ["1: no __all__"]
    found = []
    if listed != sorted(listed, key=lambda name: (_kind(name), name)):
        found.append("1: __all__ is not sorted (constants, classes, functions)")
    lazy = "__getattr__" in defined  # then the names are checked where the package is imported
    if not lazy and (unknown := sorted(set(listed) - defined - bound)):
        found.append(f"1: __all__ names what is not there: {', '.join(unknown)}")
    if missing := sorted(name for name in defined - set(listed) if not name.startswith("_")):
        found.append(f"1: __all__ lacks {', '.join(missing)}; list it or give it an underscore")
    return found


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


def _kind(name: str) -> int:
    return 0 if name.isupper() else 1 if name.lstrip("_")[:1].isupper() else 2


def no_swallowed_error(path: str, text: str) -> list[str]:
    """A broad handler raises again or uses the error it caught; a bare one does not exist."""
    found = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(f"{node.lineno}: bare except")
            elif _broad(node.type):
                inside = [inner for statement in node.body for inner in ast.walk(statement)]
                raises = any(isinstance(inner, ast.Raise) for inner in inside)
                used = any(isinstance(inner, ast.Name) and inner.id == node.name for inner in inside)
                if not raises and not used:
                    found.append(f"{node.lineno}: a broad except that neither raises nor uses the error")
        if isinstance(node, ast.Call) and _called(node) == "suppress" and any(_broad(arg) for arg in node.args):
            found.append(f"{node.lineno}: suppresses every error")
    return found


def _broad(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names)


def nothing_executed(path: str, text: str) -> list[str]:
    """Nothing that a model or a file says is run as code, and no shell of ours."""
    found = []
    for node in ast.walk(_parse(text)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "compile", "__import__"):
            found.append(f"{node.lineno}: calls {node.func.id}()")
        if _called(node) in ("system", "popen", "getoutput"):
            found.append(f"{node.lineno}: calls {_called(node)}()")
        if any(k.arg == "shell" and getattr(k.value, "value", None) is True for k in node.keywords):
            found.append(f"{node.lineno}: shell=True")
    for line, name in _imports(path, _parse(text)):
        if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill"):
            found.append(f"{line}: imports {name.split('.')[0]}")
    return found


def no_work_at_import(path: str, text: str) -> list[str]:
    """Importing a module defines things and does nothing."""
    if not _in(path, "madflow"):
        return []
    found = []
    for node in _parse(text).body:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
        target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if called or "environ" in target or isinstance(node, ast.For | ast.While | ast.With | ast.Delete):
            found.append(f"{node.lineno}: runs at import: {ast.unparse(node)[:40]}")
    return found


def no_patching(path: str, text: str) -> list[str]:
    """Fakes are objects, not patches."""
    found = [
        f"{line}: imports {name}"
        for line, name in _imports(path, _parse(text))
        if name.startswith(("unittest.mock", "mock.", "pytest_mock")) or name == "mock"
    ]
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.arg) and node.arg == "mocker":
            found.append(f"{node.lineno}: uses mocker")
    return found


def no_marker(path: str, text: str) -> list[str]:
    """Unfinished work is finished or an issue, not a comment."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{number}: {line.strip()[:60]}" for number, line in lines if _MARKER.search(line)]


def no_machine_path(path: str, text: str) -> list[str]:
    """No file knows the machine it was written on. Any text file."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{number}: {found.group()}" for number, line in lines if (found := _MACHINE_PATH.search(line))]


def readme_length(path: str, text: str) -> list[str]:
    """The front door is short; the rest is docs/."""
    lines = text.count("\n")
    return [f"1: {lines} lines, the limit is {README_LINES_MAX}"] if lines > README_LINES_MAX else []


def pins(path: str, text: str) -> list[str]:
    """A constraints file holds names and versions: no index, no address, no path."""
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.+!-]+")
    lines = enumerate(text.splitlines(), start=1)
    return [f"{n}: not name==version: {line[:40]}" for n, line in lines if line[:1] != "#" and not pin.fullmatch(line)]


SHIPPED_RULES: tuple[Rule, ...] = (
    floors,
    sole_importers,
    pure_core,
    no_prompt_text,
    public_names,
    no_work_at_import,
    no_marker,
)
CODE_RULES: tuple[Rule, ...] = (sizes, no_swallowed_error, nothing_executed, no_patching)
