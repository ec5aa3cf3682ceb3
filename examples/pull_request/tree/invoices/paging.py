"""Lists in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

PAGE_SIZE = 20
PAGE_SIZE_MAX = 100


@dataclass(frozen=True)
class Page(Generic[T]):
    items: Sequence[T]
    number: int
    pages: int


def page(items: Sequence[T], number: int, size: int = PAGE_SIZE) -> Page[T]:
    """One page of a list. Pages are numbered from 1."""
    if not 1 <= size <= PAGE_SIZE_MAX:
        raise ValueError(f"a page holds 1 to {PAGE_SIZE_MAX} items (size={size})")
    pages = len(items) // size + 1
    if not 1 <= number <= pages:
        raise ValueError(f"there are {pages} pages (number={number})")
    start = (number - 1) * size
    return Page(items[start : start + size], number, pages)
