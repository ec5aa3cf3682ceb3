"""An app's own steps as a saga: all of them, or none; each `do` passes the idempotency key on."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madflow import Receipt, Saga, Step
from madflow.commit import StepContext
from madflow.errors import EffectError

SEATS: dict[str, str] = {}  # the airline's, by idempotency key: the same key twice is the same seat


def reserve(args: Mapping[str, Any], ctx: StepContext) -> dict[str, str]:
    return {"seat": SEATS.setdefault(ctx.key, args["seat"]), "key": ctx.key}


def release(args: Mapping[str, Any], ctx: StepContext) -> None:
    SEATS.pop(ctx.result["key"], None)


def charge(args: Mapping[str, Any], ctx: StepContext) -> None:
    if args["card"] == "empty":
        raise EffectError("declined", "the card is declined", applied=False)


STEPS = [Step(name="reserve", do=reserve, undo=release, effect_class="idempotent"), Step(name="charge", do=charge)]


async def main(root: Path) -> list[Receipt]:
    saga, good = Saga(STEPS, root=root), {"reserve": {"seat": "12A"}, "charge": {"card": "good"}}
    twice = [await saga.run("trip-1", good) for _ in range(2)]
    return [*twice, await saga.run("trip-2", {"reserve": {"seat": "14C"}, "charge": {"card": "empty"}})]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print([receipt.status for receipt in asyncio.run(main(Path(folder)))], list(SEATS.values()))
