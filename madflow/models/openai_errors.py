"""What went wrong on an OpenAI-compatible endpoint, as one of our two kinds of error.

Transient (may pass): 408, 409, 425, 429, 5xx, lost connections. Permanent (never retried): a bad key, an exhausted
quota, a prompt that does not fit, a content filter, an unknown model, a request that is wrong.
A 400 or 422 that names an *optional parameter* is neither: the client learns to go without it and the next attempt
does; see `rejected_parameter`.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import ModelError, PermanentModelError, TransientModelError

__all__ = [
    "classify",
    "error_detail",
    "error_in_body",
    "from_response",
    "rejected_parameter",
    "retry_after_s",
    "tells_of_work",
]

_DETAIL_CHARS = 300
_TRANSIENT = {408: "timeout", 409: "conflict", 425: "too_early", 429: "rate_limited"}
_OVERFLOW = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "too many input",
)
_QUOTA = ("insufficient_quota", "exceeded your current quota", "insufficient balance", "credit balance", "billing_hard")
_FILTER = ("content_filter", "content_policy_violation", "content management policy", "responsibleai")
_NO_MODEL = ("model_not_found", "does not exist", "unknown model", "invalid model", "model not found")
_ADVICE = {
    "quota": "the account's quota is used up",
    "bad_key": "check the API key",
    "context_overflow": "the prompt does not fit this model",
    "unknown_model": "check the model's name and the API base",
}
_WORK = re.compile(r"""failed_generation|["']usage\\*["']""")  # of an error that came after the model had begun
_OPTIONAL = ("response_format", "max_tokens", "max_completion_tokens", "temperature", "seed", "stream_options")
_SCHEMA_WORDS = ("response_format", "json_schema", "json_object", "guided_json", "structured output")
_REFUSING = (
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "invalid schema",
    "invalid parameter",
    "not permitted",
    "extra inputs",
    "unavailable",
    "not available",
)


def error_detail(body: bytes, secret: str = "") -> tuple[str, str, str]:
    """(code, parameter, message) of an error body of any of the common shapes; the key never shows in it."""
    text = body[:65_536].decode("utf-8", "replace")
    code = parameter = ""
    message = text
    try:
        data = json.loads(text)
    except ValueError:
        data = None  # a proxy's HTML page, say: its text is the message
    if isinstance(data, dict):
        error = data.get("error", data.get("detail", data))
        if isinstance(error, dict):
            code = str(error.get("code") or error.get("type") or "")
            parameter = str(error.get("param") or "")
            message = str(error.get("message") or text)
        else:
            message = str(error)
    if secret:
        message = message.replace(secret, "***")
    return code, parameter, " ".join(message.split())[:_DETAIL_CHARS]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or Retry-After as seconds or as an HTTP date.

    A date is read against the server's own `Date` header where there is one: clocks differ. None where nothing
    usable is said; never negative.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _until(value, headers.get("date")) if scale == 1.0 else math.nan
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str, now: str | None) -> float:
    try:
        then = parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return math.nan
    try:
        return then - (parsedate_to_datetime(now).timestamp() if now else time.time())
    except (ValueError, OverflowError):
        return then - time.time()


def rejected_parameter(status: int, code: str, parameter: str, message: str) -> str:
    """Which optional parameter a 400 or 422 refuses, or empty.

    One of response_format, max_tokens, max_completion_tokens, temperature, seed, stream_options. A message that only
    mentions one without refusing it ("max_tokens is too large: …") names none.
    """
    said = f"{code} {message}".lower()
    if status not in (400, 422) or any(word in said for word in _OVERFLOW):
        return ""
    if parameter.startswith("response_format"):
        return "response_format"
    if not any(word in said for word in _REFUSING):
        return ""
    if parameter in _OPTIONAL:
        return parameter
    if any(word in f"{parameter} {message}".lower() for word in _SCHEMA_WORDS):
        return "response_format"
    named = [(found.start(), name) for name in _OPTIONAL if (found := re.search(rf"\b{name}\b", message))]
    return min(named)[1] if named else ""  # "'max_tokens' is not supported …, use 'max_completion_tokens' instead"


def tells_of_work(text: str) -> bool:
    """Whether a refusal's whole text has a field that only a request can have that was worked on: usage, or what was
    generated in vain. Such a refusal may be billed.

    The field counts at any depth: gateways quote their provider's error as a string, its quotes escaped, and so does
    who quotes the gateway's."""
    return _WORK.search(text) is not None


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, model: str, secret: str = "") -> ModelError:
    """The error that a response other than 2xx stands for."""
    code, _, message = error_detail(body, secret)
    return classify(status, code, message, headers, model=model)


def classify(status: int, code: str, message: str, headers: Mapping[str, str], *, model: str) -> ModelError:
    """The error of a status, an error code and a message, whoever sent them."""
    text = f"{model}: HTTP {status}: {message}" if message else f"{model}: HTTP {status}"
    final = _final(status, f"{code} {message}".lower())
    if final is None:
        kind = _TRANSIENT.get(status, "server_error")
        return TransientModelError(kind, text, status=status, retry_after_s=retry_after_s(headers))
    advice = _ADVICE.get(final, "")
    return PermanentModelError(final, f"{text}; {advice}" if advice else text, status=status)


def _final(status: int, said: str) -> str | None:
    """The code of an error that will not pass, or None for one that may."""
    rules = (
        ("quota", status == 402 or (status in (400, 403, 429) and any(word in said for word in _QUOTA))),
        ("content_filter", status in (400, 403, 422) and any(word in said for word in _FILTER)),
        ("bad_key", status in (401, 403)),
        (None, status in _TRANSIENT or status >= 500),
        ("context_overflow", status == 413 or any(word in said for word in _OVERFLOW)),
        ("unknown_model", status == 404 or any(word in said for word in _NO_MODEL)),
    )
    return next((code for code, holds in rules if holds), "bad_request")


def error_in_body(data: Any, *, model: str, secret: str = "") -> ModelError | None:
    """The error that some gateways hide in a 200's body as {"error": {"code": 429, …}}, or None."""
    if not isinstance(data, dict) or not isinstance(data.get("error"), (dict, str)) or data.get("choices"):
        return None
    error = data["error"]
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else 502
    return from_response(status, {}, json.dumps(data).encode(), model=model, secret=secret)
