"""Answers in JSON, whole or broken: the value of an "answer" field, wherever the text around it was cut.

A model's JSON is often no JSON: fenced, preceded by prose, with bad escapes, stopped in the middle. What is looked for
is only `"answer": VALUE` with a quoted key behind a brace, so nothing around it needs to be sound. Of several the last
one counts. A value that was cut before its first character is not there.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["field_answer", "stated_confidence"]

_KEY: Final = r"""["'](?:final[_ ]?answer|answer|choice|selected[_ ]?option|option|letter)["']\s{0,20}:\s{0,20}"""
_VALUE: Final = (
    r"""(?:"((?:[^"\\]|\\.){0,400})|'((?:[^'\\]|\\.){0,400})|\[\s{0,20}"((?:[^"\\]|\\.){0,400})"\s{0,20}\]"""
    r"""|([^\s,}\]"'{\[][^,}\]\n"]{0,80}))"""
)
_ANSWER: Final = re.compile(_KEY + _VALUE, re.IGNORECASE | re.DOTALL)
_CONFIDENCE: Final = re.compile(
    r"""\bconfidence(?:\s(?:level|score))?["']?\s{0,4}(?:is|of|:|=)\s{0,4}["'*]{0,4}(\d{1,3}(?:\.\d{1,12})?|\.\d{1,12})\s?(%|/\s?10{1,2}\b)?""",
    re.IGNORECASE,
)


def field_answer(text: str) -> str | None:
    """What the last "answer" field holds, None where there is none."""
    brace = text.find("{")
    if brace < 0:
        return None
    value = None
    for found in _ANSWER.finditer(text, brace):
        said = next((group for group in found.groups() if group is not None), "").strip()
        if said:
            value = said
    return value


def stated_confidence(text: str) -> float | None:
    """The confidence a text states last, 0 to 1: "0.8", "80%", "8/10". A bare number above 1 counts as a percentage."""
    said = None
    for found in _CONFIDENCE.finditer(text):
        value = float(found[1])
        scale = found[2] or ""
        if scale.startswith("/"):
            value /= 10 ** scale.count("0")
        elif scale == "%" or value > 1:
            value /= 100
        if value <= 1:
            said = value
    return said
