"""An LLM asked whether two remarks say the same, for the pairs that the words leave in doubt.

`core.same.pairs_in_doubt` names the pairs, `judge_pairs` has them read, `core.same.same_findings` takes the verdicts.
One call holds several pairs; the number of calls is bounded, each is one attempt (wrap the client in `models.retry` for
more). A reply counts only as a whole: it names every pair of its call exactly once. What could not be read, or was not
answered, leaves its pairs to the words, and is told in `PairVerdicts.unread`; nothing is guessed.

The calls are not metered: no ledger, no budget and no receipt knows of them. What is bounded is how many there are
(`calls_max`), how long each takes (`timeout_s`) and its output; `PairVerdicts` tells the tokens afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from string import Template
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from ..core.same import Pair, Remark
from ..core.strict_json import decode_json
from ..errors import ConfigError, ModelError, ReplyError
from ..ports import ModelClient, ModelReply, ModelRequest, ReplySchema
from ..prompts import Prompts, find_prompts, load_prompts, read_beneath

__all__ = ["PAIRS_PER_CALL", "PairVerdicts", "judge_pairs"]

PAIRS_PER_CALL: Final = 20
_TOKENS_PER_PAIR: Final = 24
_TOKENS_BESIDE: Final = 200
_FOLDER: Final = "same"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pair: int
    same: bool | None


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pairs: list[_Answer]


_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pair": {"type": "integer"}, "same": {"type": ["boolean", "null"]}},
                "required": ["pair", "same"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["pairs"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class PairVerdicts:
    """What a reader found.

    Attributes:
        judged: pair to whether it says the same; pairs on which it could not tell are not here.
        calls: calls made. unread: why a call told nothing, one entry a call that did not.
        prompt_tokens, output_tokens: as reported by the provider, 0 where it reported none.
    """

    judged: Mapping[Pair, bool] = field(default_factory=dict)
    calls: int = 0
    unread: tuple[str, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0


async def judge_pairs(
    client: ModelClient,
    model: str,
    remarks: Sequence[Remark],
    pairs: Sequence[Pair],
    *,
    calls_max: int = 4,
    timeout_s: float = 60.0,
) -> PairVerdicts:
    """Have pairs of remarks read; calls run at the same time, outside of any budget or ledger.

    Args:
        pairs: at most `PAIRS_PER_CALL` · `calls_max`, e.g. of `pairs_in_doubt`.

    Raises:
        ConfigError: more pairs than the calls hold, a pair that is none, a prompt file that cannot be used.
    """
    if len(pairs) > calls_max * PAIRS_PER_CALL:
        raise ConfigError(
            f"pairs exceeded the limit of {calls_max} calls with {PAIRS_PER_CALL} pairs each (pairs={len(pairs)}); "
            "ask for fewer with pairs_in_doubt(…, at_most=…), or raise calls_max"
        )
    for i, j in pairs:
        if not 0 <= i < j < len(remarks):
            raise ConfigError(f"pair ({i}, {j}) is none of {len(remarks)} remarks; pairs are (i, j) with i < j")
    batches = [pairs[start : start + PAIRS_PER_CALL] for start in range(0, len(pairs), PAIRS_PER_CALL)]
    requests = [_request(model, remarks, batch, timeout_s) for batch in batches]
    replies = await asyncio.gather(*(_asked(client, request) for request in requests))
    judged: dict[Pair, bool] = {}
    unread: list[str] = []
    told = [reply for reply in replies if isinstance(reply, ModelReply)]
    for batch, reply in zip(batches, replies, strict=True):
        if isinstance(reply, ModelError):
            unread.append(str(reply))
            continue
        try:
            judged.update(_read(reply.text, batch))
        except ReplyError as error:
            unread.append(str(error))
    usages = [reply.usage for reply in told if reply.usage is not None]
    return PairVerdicts(
        judged,
        len(batches),
        tuple(unread),
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
    )


async def _asked(client: ModelClient, request: ModelRequest) -> ModelReply | ModelError:
    """A call that failed is a value here: the other calls still count."""
    try:
        return await client.complete(request)
    except ModelError as error:
        return error


def _request(model: str, remarks: Sequence[Remark], batch: Sequence[Pair], timeout_s: float) -> ModelRequest:
    root = find_prompts()
    fences = load_prompts(root / "generic", "review", roles=(), root=root)
    shown = "\n\n".join(
        f"{number}.\n{_shown(fences, remarks[i])}\n{_shown(fences, remarks[j])}"
        for number, (i, j) in enumerate(batch, start=1)
    )
    try:
        prompt = Template(read_beneath(root / _FOLDER, "pairs.md")).substitute(pairs=shown)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{_FOLDER}/pairs.md: its one slot is $pairs, and $$ a dollar ({error}); fix it") from error
    return ModelRequest(
        call_id=f"same-{sha256(prompt.encode()).hexdigest()[:16]}",
        model=model,
        system=read_beneath(root / _FOLDER, "system.md"),
        prompt=prompt,
        max_output_tokens=_TOKENS_BESIDE + _TOKENS_PER_PAIR * len(batch),
        timeout_s=timeout_s,
        schema=ReplySchema("same_pairs", _SCHEMA),
        temperature=0.0,
    )


def _shown(fences: Prompts, remark: Remark) -> str:
    place = json.dumps(
        {"file": remark.file or None, "lines": list(remark.lines) if remark.lines else None}, ensure_ascii=False
    )
    return fences.fence(f"{place}\n{remark.text}")


def _read(text: str, batch: Sequence[Pair]) -> dict[Pair, bool]:
    body = text.strip()
    if not body:
        raise ReplyError("empty")
    value, end = decode_json(body)
    if body[end:].strip():
        raise ReplyError("trailing_text", f"{len(body) - end} characters after the JSON")
    try:
        reply = _Reply.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ReplyError("schema", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    numbers = sorted(answer.pair for answer in reply.pairs)
    if numbers != list(range(1, len(batch) + 1)):
        raise ReplyError("schema", f"pairs {numbers}, each of 1 to {len(batch)} is asked for once")
    return {batch[answer.pair - 1]: answer.same for answer in reply.pairs if answer.same is not None}
