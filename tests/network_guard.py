"""What the network guard of every test says, and what it lets through."""

import ipaddress


class NetworkForbiddenError(RuntimeError):
    """A test reached for the network. Not an OSError: no retry may take it for a lost connection."""


def is_loopback(host: object) -> bool:
    """Whether `host` (a name or an address) stays on this machine."""
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%", maxsplit=1)[0]).is_loopback
    except ValueError:
        return False
