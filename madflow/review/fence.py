"""Fencing untrusted text in a prompt.

A fence is a line that opens, the text, and a line that closes. Both lines carry a nonce, the SHA-256 of a key and the
text itself: a text cannot hold its own nonce, for that would be a fixed point of the hash. Whatever in the text looks
like a fence's line, with any nonce, is broken up, so that not even a careless reader takes it for one. The same text
under the same key gives the same bytes: a prompt's prefix stays cacheable, and a replay reproduces it.
"""

from __future__ import annotations

import hashlib
import json
import re

__all__ = ["fence"]

_LOOKALIKE = re.compile(r"(<\s*){3}(?=(?:END\s+)?UNTRUSTED)|(?<=UNTRUSTED)(\s*>){3}", re.IGNORECASE)
_NONCE_CHARS = 16


def fence(text: str, *, key: str, label: str = "") -> str:
    """`text` between markers that it cannot forge.

    Args:
        key: what the nonce depends on besides the text, e.g. the debate's id.
        label: what the text is, e.g. a path: printed as a JSON string on the opening line, at most 200 characters.

    Returns:
        `<<<UNTRUSTED nonce "label">>>`, the text, `<<<END UNTRUSTED nonce>>>`, each on lines of its own.
    """
    data = json.dumps([key, label, text]).encode()
    nonce = hashlib.sha256(data).hexdigest()[:_NONCE_CHARS]
    name = f" {json.dumps(_LOOKALIKE.sub('<', label[:200]), ensure_ascii=False)}" if label else ""
    body = _LOOKALIKE.sub(lambda found: " ".join(found.group().replace(" ", "")), text)
    return f"<<<UNTRUSTED {nonce}{name}>>>\n{body.removesuffix(chr(10))}\n<<<END UNTRUSTED {nonce}>>>"
