"""Sends invoices to the ledger service."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable

TIMEOUT_SECONDS = 10
ATTEMPTS = 5
FIRST_DELAY_SECONDS = 0.5
DELAY_SECONDS_MAX = 30.0

log = logging.getLogger(__name__)


def send(url: str, payload: dict[str, object]) -> int:
    """Send one invoice; the HTTP status."""
    body = json.dumps(payload).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        return int(response.status)


def send_with_retries(
    url: str, payload: dict[str, object], sleep: Callable[[float], None] = time.sleep
) -> int:
    """Send one invoice, again after a pause that doubles each time while the service cannot be reached.

    Raises:
        urllib.error.URLError: the last attempt failed too.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return send(url, payload)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            delay = delay_seconds(attempt)
            log.warning("attempt %d of %d failed (%s), next in %.1f s", attempt, ATTEMPTS, error.reason, delay)
            breakpoint()
            sleep(delay)
    return send(url, payload)


def delay_seconds(attempt: int) -> float:
    """The pause after an attempt: half a second, doubled each time, at most 30 seconds."""
    return max(FIRST_DELAY_SECONDS * 2 ** (attempt - 1), DELAY_SECONDS_MAX)
