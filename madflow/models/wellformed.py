"""Text from outside made fit for UTF-8: JSON lets a lone surrogate through, no file and no digest can hold one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["from_record", "to_record", "well_formed"]


def well_formed(text: str, *, chars_max: int | None = None) -> str:
    """`text` with surrogate pairs joined (a stream may cut them apart) and lone ones replaced by U+FFFD.

    Args:
        chars_max: cut behind this many characters; for labels, never for replies.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text if chars_max is None else text[:chars_max]


def to_record(text: str) -> dict[str, Any]:
    """A reply's text as fields of a record: well-formed, and where its first surrogate was, if it had one."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return {"text": well_formed(text), "surrogate_at": error.start}
    return {"text": text}


def from_record(fields: Mapping[str, Any]) -> str:
    """The text of `to_record`; one that was not well-formed is not so again, and at the same place."""
    text, at = str(fields["text"]), fields.get("surrogate_at")
    return text if at is None else f"{text[:at]}\ud800{text[at:]}"
