"""github.com, as far as git sees it: over TLS, behind a proxy, with public and private repositories."""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from support.certificates import make_certificate
from support.git_repositories import GitRepository, GitServer
from support.ports import free_port

HOST = "github.com"


class GitHub:
    """Serves the repositories below a folder as https://github.com; an async context manager.

    git gets there by `variables()`: a proxy that leads each host to this machine, and the certificate to trust.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        """Make a certificate in `scratch`."""
        self._certificate = make_certificate(scratch, HOST)
        self.server = GitServer(root, tls=self._certificate.serving())
        self._proxy_port = free_port()
        self._proxy: asyncio.Server | None = None

    def url(self, repository: GitRepository, *, is_private: bool) -> str:
        """Return the address of a repository."""
        return f"https://{HOST}/{'private' if is_private else 'smart'}/{repository.path.name}"

    def variables(self) -> dict[str, str]:
        """Return what leads git here."""
        return {"https_proxy": f"http://127.0.0.1:{self._proxy_port}", "GIT_SSL_CAINFO": str(self._certificate.file)}

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.server.__aenter__()
        self._proxy = await asyncio.start_server(self._tunnel, "127.0.0.1", self._proxy_port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._proxy is not None:
            self._proxy.close()
        await self.server.__aexit__(kind, error, trace)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            near, far = await asyncio.open_connection("127.0.0.1", self.server.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, far), name="to the server")
                group.create_task(_pass_on(near, writer), name="to git")


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()
