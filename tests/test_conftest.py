"""The guards of the test run itself."""

import asyncio
import os
import socket

import pytest
from hypothesis import settings
from network_guard import NetworkForbiddenError, is_loopback

OUTSIDE = ("192.0.2.1", 9)  # TEST-NET-1 (RFC 5737): never routed


def test_a_connection_beyond_loopback_is_refused_and_remembered(network_reached: list[str]) -> None:
    """Catches a guard that code under test could swallow: the attempt is also kept, and fails the test at its end."""
    with (
        socket.socket() as sock,
        pytest.raises(NetworkForbiddenError, match=r"connect to 192\.0\.2\.1:9: tests reach loopback"),
    ):
        sock.connect(OUTSIDE)
    with socket.socket() as sock, pytest.raises(NetworkForbiddenError):
        sock.connect_ex(OUTSIDE)
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(NetworkForbiddenError, match="datagram"):
        sock.sendto(b"x", OUTSIDE)
    with pytest.raises(NetworkForbiddenError, match=r"lookup of 'example\.com'"):
        socket.getaddrinfo("example.com", 443)
    assert len(network_reached) == 4
    network_reached.clear()


async def test_asyncio_connections_pass_the_same_guard(network_reached: list[str]) -> None:
    """Catches an event loop that connects around the patched methods."""
    with pytest.raises(NetworkForbiddenError):
        await asyncio.open_connection(*OUTSIDE)
    assert network_reached
    network_reached.clear()


async def test_loopback_works() -> None:
    """Catches a guard that forbids the servers that tests start."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(
            "localhost", server.sockets[0].getsockname()[1], family=socket.AF_INET
        )
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        (b"localhost", True),
        (None, True),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("::2", False),
    ],
)
def test_what_counts_as_loopback(host: object, here: bool) -> None:
    """Catches a check by prefix, which a name of somebody else would pass."""
    assert is_loopback(host) is here


def test_no_key_and_no_telemetry_reach_a_test() -> None:
    """Catches a run that would pass with a developer's key and fail without it."""
    assert not [name for name in os.environ if name.upper().endswith(("_API_KEY", "_PROXY"))]
    assert os.environ["LANGSMITH_TRACING"] == "false"
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert settings.default.derandomize or os.environ.get("HYPOTHESIS_PROFILE")
