"""Languages by file name: what a seat that reads only some languages needs to know."""

from __future__ import annotations

from pathlib import PurePosixPath

__all__ = ["language_of"]

_BY_NAME = {"dockerfile": "dockerfile", "makefile": "make", "jenkinsfile": "groovy", "gemfile": "ruby"}
_BY_SUFFIX = {
    suffix: language
    for language, suffixes in {
        "python": ".py .pyi .pyw",
        "go": ".go",
        "javascript": ".js .jsx .mjs .cjs",
        "typescript": ".ts .tsx .mts .cts",
        "rust": ".rs",
        "java": ".java",
        "kotlin": ".kt .kts",
        "scala": ".scala",
        "c": ".c .h",
        "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
        "csharp": ".cs",
        "swift": ".swift",
        "ruby": ".rb",
        "php": ".php",
        "perl": ".pl .pm",
        "lua": ".lua",
        "r": ".r",
        "julia": ".jl",
        "elixir": ".ex .exs",
        "haskell": ".hs",
        "shell": ".sh .bash .zsh",
        "powershell": ".ps1",
        "sql": ".sql",
        "html": ".html .htm",
        "css": ".css .scss .less",
        "yaml": ".yaml .yml",
        "json": ".json",
        "toml": ".toml",
        "ini": ".ini .cfg",
        "xml": ".xml",
        "markdown": ".md .markdown",
        "rst": ".rst",
        "text": ".txt",
        "terraform": ".tf",
        "protobuf": ".proto",
        "notebook": ".ipynb",
    }.items()
    for suffix in suffixes.split()
}


def language_of(path: str) -> str:
    """The language of a file by its name, lower case ("python", "go", …); empty if unknown."""
    name = PurePosixPath(path)
    return _BY_NAME.get(name.name.casefold()) or _BY_SUFFIX.get(name.suffix.casefold(), "")
