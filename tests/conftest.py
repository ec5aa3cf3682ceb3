"""What every test runs under: no network beyond loopback, no keys, no telemetry, the same random examples each time."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from network_guard import NetworkForbiddenError, is_loopback

# Set before anything imports litellm or langsmith, which read them at import.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LANGSMITH_TRACING"] = "false"
for _name in list(os.environ):
    if _name.upper().endswith(("_API_KEY", "_API_TOKEN", "_API_BASE", "_BASE_URL", "_PROXY")) or _name.startswith(
        "AWS_"
    ):
        del os.environ[_name]

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


_reached: list[str] = []


def _refuse(what: str) -> None:
    _reached.append(what)
    raise NetworkForbiddenError(
        f"{what}: tests reach loopback only; use a client of madflow.testing or a loopback server"
    )


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse every connection and name lookup that would leave the machine."""
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    sendto = socket.socket.sendto

    def check(sock: socket.socket, address: Any, what: str) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            _refuse(f"{what} {address[0]}:{address[1]}")

    def guarded_connect(sock: socket.socket, address: Any) -> None:
        check(sock, address, "connect to")
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
        check(sock, address, "connect to")
        return connect_ex(sock, address)

    def guarded_sendto(sock: socket.socket, data: Any, *args: Any) -> int:
        check(sock, args[-1], "datagram to")
        return sendto(sock, data, *args)

    def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_loopback(host):
            _refuse(f"lookup of {host!r}")
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket.socket, "sendto", guarded_sendto)
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        yield


@pytest.fixture(autouse=True)
def network_reached(_no_network: None) -> Iterator[list[str]]:
    """What the test reached for: it fails for each entry, even where the code under test caught the error."""
    _reached.clear()
    yield _reached
    if _reached:
        pytest.fail(f"the test reached for the network: {'; '.join(_reached)}", pytrace=False)
