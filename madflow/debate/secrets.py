"""What looks secret: paths that never enter a prompt, and values that are redacted before anything reads them.

A redacted value becomes `<redacted:KIND>` (core.findings.REDACTED): plain ASCII without quotes, braces or
backslashes, so that a string literal, a YAML scalar or a line of JSON stays one, and every line keeps its number.
Patterns are those of tokens whose form their issuers publish, plus private key blocks; a plain password has no form
and is not recognised here (a linter's rule finds it as a literal).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

__all__ = ["Redactor", "redact", "secret_path"]

_NAMES = re.compile(
    r"^(?:\.env(?:rc|\..+)?|.+\.env|\.npmrc|\.yarnrc|\.netrc|_netrc|\.pypirc|\.git-credentials|\.pgpass|\.my\.cnf"
    r"|\.htpasswd|\.dockercfg|\.vault[-_]?token|id_(?:rsa|dsa|ecdsa|ed25519)(?:[._-].*)?|credentials(?:\..*)?"
    r"|secrets?(?:\.(?:ya?ml|json|toml|ini|txt|env|properties|tfvars))?|service[-_]?account.*\.json|client_secret.*\.json"
    r"|terraform\.tfstate(?:\..*)?|.+\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk|asc|gpg|tfvars|ovpn))$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\.(?:example|sample|template|dist|pub|py|pyi|go|js|jsx|ts|tsx|rs|java|kt|rb|md|rst)$", re.IGNORECASE
)
_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".git", ".azure", ".madflow"})
_HOLDERS = frozenset({(".docker", "config.json")})

# Kind, pattern, and texts of which a line holds at least one where the pattern matches: most lines hold none of them.
_VALUES = (
    ("aws-access-key", r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b", ("AKIA", "ASIA", "AROA", "AIDA")),
    (
        "aws-secret-key",
        r"(?i:aws.{0,20}secret.{0,20}[=:]\s*[\"']?)([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ("secret", "SECRET", "Secret"),
    ),
    ("github-token", r"\bgh[pousr]_[A-Za-z0-9]{30,255}", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("github-token", r"\bgithub_pat_[A-Za-z0-9_]{22,255}", ("github_pat_",)),
    ("gitlab-token", r"\bglpat-[A-Za-z0-9_\-]{20,64}", ("glpat-",)),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,250}", ("xox",)),
    ("stripe-key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}", ("k_live_", "k_test_")),
    ("api-key", r"\bsk-(?:[a-z]{2,10}\d{0,2}-)?[A-Za-z0-9_\-]{20,250}", ("sk-",)),
    ("google-api-key", r"\bAIza[A-Za-z0-9_\-]{35}", ("AIza",)),
    ("npm-token", r"\bnpm_[A-Za-z0-9]{36}\b", ("npm_",)),
    ("pypi-token", r"\bpypi-[A-Za-z0-9_\-]{50,500}", ("pypi-",)),
    (
        "json-web-token",
        r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{10,4000}\.[A-Za-z0-9_\-]{10,2000}",
        ("eyJ",),
    ),
    ("url-password", r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s/:@\"'<>{}$]{1,100}:([^\s/:@\"'<>{}$]{3,200})@", ("://",)),
)
_PATTERNS = tuple((kind, re.compile(pattern), hints) for kind, pattern, hints in _VALUES)
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE = re.compile(r"^([\s\"'+,]*)[A-Za-z0-9+/=]{16,120}((?:\\n)?[\s\"'+,;\\)]*)$")
_KEY_LEAD = re.compile(r"[\s\"'+,]*")
_KEY_HEADER = re.compile(r"^\s*(?:Proc-Type|DEK-Info|Version|Comment):", re.IGNORECASE)
# A body line of a key whose BEGIN is out of sight: 64 (PEM) or 70 (OpenSSH) characters of base64, nothing else beside.
_ORPHAN = re.compile(
    r"^([\s\"'+,]*)(?=\S{0,69}[a-z])(?=\S{0,69}[A-Z])(?=\S{0,69}[0-9])"
    r"(?:[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{64})((?:\\n)?[\s\"'+,;\\)]*)$"
)
_KEY_LINES_MAX = 200
_KEY_LINE_CHARS_MAX = 200  # no line of a key is longer, and the patterns for them are slow on long lines


def secret_path(path: str) -> bool:
    """Whether a path (relative, `/` between its parts) names a file that usually holds secrets.

    Templates (`.env.example`), public keys and source files are not secret by name; their values are redacted
    all the same.
    """
    parts = PurePosixPath(path).parts
    if not parts:
        return False
    if any(part.casefold() in _FOLDERS for part in parts[:-1]) or tuple(parts[-2:]) in _HOLDERS:
        return True
    name = parts[-1]
    return bool(_NAMES.match(name)) and not _HARMLESS.search(name)


class Redactor:
    """Redacts line by line, for a private key spans many. Feed it consecutive lines of one file."""

    def __init__(self) -> None:
        self._left = 0  # lines that may still belong to the private key that is open

    def line(self, text: str) -> str:
        """One line, its secret-looking values replaced. Line breaks are not part of it."""
        if self._left:
            return self._key_line(text)
        text = text.replace("<redacted:", "<redacted-text:")  # written by an author: no value stood here
        out, at = [], 0
        while "PRIVATE KEY" in text and (found := _BEGIN.search(text, at)):
            out.append(f"{_values(text[at : found.start()])}<redacted:private-key>")
            end = _END.search(text, found.end())
            if end is None:
                self._left = _KEY_LINES_MAX
                return "".join((*out, _tail(text[found.end() :])))
            at = end.end()
        return "".join((*out, _values(text[at:])))

    def _key_line(self, text: str) -> str:
        self._left -= 1
        found = _END.search(text)
        if found:
            self._left = 0
            return f"{_lead(text)}<redacted:private-key>{text[found.end() :]}"
        if not text.strip():
            return text
        body = _KEY_LINE.match(text) if len(text) <= _KEY_LINE_CHARS_MAX else None
        if body:
            return f"{body.group(1)}<redacted:private-key>{body.group(2)}"
        if _KEY_HEADER.match(text):
            return "<redacted:private-key>"
        self._left = 0  # no key after all, e.g. a program that only names the marker
        return self.line(text)


def _values(text: str) -> str:
    for kind, pattern, hints in _PATTERNS:
        if any(hint in text for hint in hints):
            text = pattern.sub(partial(_mark, kind), text)
    return _ORPHAN.sub(r"\1<redacted:base64-block>\2", text) if 64 <= len(text) <= _KEY_LINE_CHARS_MAX else text


def _lead(text: str) -> str:
    found = _KEY_LEAD.match(text)
    return found.group() if found else ""


def _tail(text: str) -> str:
    # What closes the string or the line behind a marker stays, so that the program around it stays one.
    return text[len(text.rstrip(" \t\r\"'+,;\\)")) :]


def _mark(kind: str, match: re.Match[str]) -> str:
    marker = f"<redacted:{kind}>"
    if not match.re.groups:
        return marker
    start, end = match.span(1)
    whole = match.group()
    return whole[: start - match.start()] + marker + whole[end - match.start() :]


def redact(text: str) -> str:
    """A whole text, redacted; as many lines as before."""
    redactor = Redactor()
    return "\n".join(redactor.line(line) for line in text.split("\n"))
