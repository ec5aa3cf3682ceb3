"""Text of other origin (model output, file names, questions), made safe for a terminal.

A reply or a file name may hold escape sequences that move the cursor, rename the window or paint over what stands
there, and direction marks that make text read as what it is not. `clean` takes all of that out; nothing else prints
such text. In JSON nothing may be lost, so there the same characters are written as \\uXXXX.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["clean", "json_text", "one_line", "shorten"]

# ECMA-48: CSI sequences, OSC/DCS/SOS/PM/APC strings up to their terminator (or the end of the line), two-byte escapes.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?"
)
# Controls but tab and newline, direction marks and overrides, other invisible format characters, lone surrogates.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = "\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}{_INVISIBLE}]")


def clean(text: str) -> str:
    """`text` without control sequences and invisible characters; tabs become four spaces, newlines stay."""
    without = _SEQUENCE.sub("", text.replace("\r\n", "\n"))
    return _UNSAFE.sub("\ufffd", without).replace("\t", "    ")


def one_line(text: str, limit: int = 200) -> str:
    """`text` cleaned, white space folded, at most `limit` characters."""
    return shorten(" ".join(clean(text).split()), limit)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_text(data: Any) -> str:
    """One JSON document, indented, ending in a newline. What a terminal would act on is escaped; nothing is lost."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(_escaped, text) + "\n"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
