"""Times as the commit layer writes them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the epoch as an RFC 3339 timestamp in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
