"""Reading a plan.json: bounded, strictly, and with an error that names the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from ..core.panel_request import PlanFile, parse_plan_file
from ..core.strict_json import decode_json
from ..errors import PlanError, ReplyError

__all__ = ["PLAN_BYTES_MAX", "read_plan_file"]

PLAN_BYTES_MAX: Final = 32 * 1024 * 1024


def read_plan_file(name: str) -> PlanFile:
    """The plan in the file `name`; "-" reads the standard input.

    Raises:
        PlanError: it cannot be read, is larger than 32 MiB, is not UTF-8 or JSON, or is no plan.
    """
    shown = "the standard input" if name == "-" else name
    try:
        if name == "-":
            data = sys.stdin.buffer.read(PLAN_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise PlanError(f"{shown}: cannot be read ({error.strerror or error}); name a plan.json", step=None) from error
    if len(data) > PLAN_BYTES_MAX:
        raise PlanError(f"{shown}: larger than {PLAN_BYTES_MAX} bytes, the limit for a plan; split it", step=None)
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise PlanError(f"{shown}: not UTF-8 at byte {error.start}; write the plan as UTF-8", step=None) from error
    try:
        value, end = decode_json(text)
    except ReplyError as error:
        raise PlanError(f"{shown}: not JSON ({error.cause}: {error.detail})", step=None) from error
    if end != len(text):
        raise PlanError(f"{shown}: more text behind the JSON value, from character {end} on; remove it", step=None)
    try:
        return parse_plan_file(value)
    except PlanError as error:
        raise PlanError(f"{shown}: {error}", step=error.step) from error
