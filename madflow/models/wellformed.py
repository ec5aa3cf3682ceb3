"""Text from outside made fit for UTF-8: JSON lets a lone surrogate through, no file and no digest can hold one."""

from __future__ import annotations

__all__ = ["well_formed"]


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
