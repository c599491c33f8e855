"""Free ports for servers that take long to start."""

import random
import socket

FIRST, LAST = 20_000, 32_000  # below the ports that Linux hands to outgoing connections


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that no outgoing connection will take meanwhile.

    ComfyUI binds its port seconds after it was told which. A port from the kernel's own range could by then be the
    near end of another test's connection.
    """
    for port in random.SystemRandom().sample(range(FIRST, LAST), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    message = f"none of 200 ports between {FIRST} and {LAST} is free"
    raise RuntimeError(message)
