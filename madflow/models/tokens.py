"""How many tokens a text is, offline.

OpenAI's models are counted with their own encoding (tiktoken), whose tables litellm ships. Loading one costs 0.1 to
0.2 s and 45 (cl100k) to 70 MB (o200k) of memory, once a process and only when such a model is first quoted. Any other
model is counted by UTF-8 bytes: a byte-level tokenizer makes at least one byte of each token, so that is a worst case,
and the quote says that it is not exact. Nothing is ever fetched.

Counts of blocks of a prompt are kept: a debate's prompts share their beginnings. Cut at a border, a text rarely has
fewer tokens than whole; one token is added for each border so that the sum is not below the whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..ports import ReplySchema
from .bundled import bundled_file

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["TokenCounter", "encoding_name"]

_TOKENIZERS: Final = "litellm_core_utils/tokenizers"
_BLOB: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_BLOB_OF: Final = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base"}
_BLOCKS_MAX: Final = 4096
_MESSAGE_TOKENS: Final = 4  # <|im_start|>role\n … <|im_end|>: three, and one for a name
_PRIMING_TOKENS: Final = 3  # every reply starts as <|im_start|>assistant<|im_sep|>
_TEMPLATE_TOKENS: Final = 96  # a chat template that is not OpenAI's own may add a preamble; harmony's does
_LOCK = threading.Lock()  # around the environment variable that tiktoken reads while it loads


def encoding_name(model: str) -> str | None:
    """tiktoken's encoding of a model name without provider prefix, or None where it is not an OpenAI model."""
    import tiktoken.model

    try:
        return tiktoken.model.encoding_name_for_model(model)
    except KeyError:
        return None


class _Blocks:
    """An encoding, and how many tokens recent blocks had: by hash and length, the texts are not kept."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._seen: OrderedDict[tuple[int, int], int] = OrderedDict()

    def count(self, text: str) -> int:
        key = (hash(text), len(text))
        found = self._seen.get(key)
        if found is None:
            found = len(self._encoding.encode_ordinary(text))
            self._seen[key] = found
            if len(self._seen) > _BLOCKS_MAX:
                self._seen.popitem(last=False)
        return found


@cache
def _blocks(name: str) -> _Blocks | None:
    """The encoding, loaded once a process; None where its table is not on this machine."""
    folder = _table_folder(name)
    if folder is None:
        return None
    import tiktoken

    with _LOCK:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            return _Blocks(tiktoken.get_encoding(name))
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


def _table_folder(name: str) -> Path | None:
    table = hashlib.sha1(_BLOB.format(_BLOB_OF.get(name, name)).encode(), usedforsecurity=False).hexdigest()
    own = os.environ.get("TIKTOKEN_CACHE_DIR")
    for folder in (Path(own) if own else None, bundled_file(_TOKENIZERS)):
        if folder is not None and (folder / table).is_file():
            return folder
    return None


class TokenCounter:
    """Counts the prompt tokens of one model's requests.

    Args:
        model: the model's name without a provider's prefix.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._schemas: dict[str, int] = {}
        self._name: str | None = None
        self._looked = False

    @property
    def exact(self) -> bool:
        """Whether texts are counted with the model's own encoding. Loads it."""
        return self._own() is not None

    def count(self, text: str) -> int:
        """Tokens of one text, without framing."""
        own = self._own()
        return own.count(text) if own is not None else _utf8_bytes(text)

    def count_prompt(
        self, system: str, prompt: str, *, ends: Sequence[int] = (), schema: ReplySchema | None = None
    ) -> int:
        """Prompt tokens of a whole request: both messages, chat framing, and the schema.

        Args:
            ends: ascending character offsets in `prompt` where blocks end; each block is counted once and remembered.
        """
        own = self._own()
        framing = 2 * _MESSAGE_TOKENS + _PRIMING_TOKENS
        if own is None:
            body = _utf8_bytes(system) + _utf8_bytes(prompt) + _TEMPLATE_TOKENS
        else:
            body = own.count(system) + (_TEMPLATE_TOKENS if self._name == "o200k_harmony" else 0)
            start = 0
            for end in (*ends, len(prompt)):
                if start < end <= len(prompt):
                    body += own.count(prompt[start:end]) + 1
                    start = end
        return body + framing + (self._schema(schema) if schema is not None else 0)

    def _schema(self, schema: ReplySchema) -> int:
        known = self._schemas.get(schema.name)
        if known is None:
            text = json.dumps(schema.schema, separators=(",", ":"))
            known = self._schemas[schema.name] = self.count(schema.name) + self.count(text) + _MESSAGE_TOKENS
        return known

    def _own(self) -> _Blocks | None:
        if not self._looked:
            self._name, self._looked = encoding_name(self.model), True
        return _blocks(self._name) if self._name is not None else None


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
