"""A real S3 server, OpenStack Swift with its s3api, which checks every signature as AWS does.

    bucket = await object_store.make_bucket()
    ...                                           # our code uploads to object_store.endpoint_url
    stored = await object_store.read(bucket, "a/b.png")
    assert stored.content_type == "image/png"

`object_store.google` opens the same buckets through Google Cloud Storage's interface: see object_store_gateway.py.

It differs from AWS in this: an access key that it does not know is answered with SignatureDoesNotMatch, and there are
no session tokens. Parts below 5 MiB (but the last) and a wrong region are refused, as on AWS.
"""

import json
import os
import secrets
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self
from xml.etree.ElementTree import Element, fromstring

from support.keeper import Plan
from support.object_store_client import ANYONE, S3Client, StoredObject
from support.ports import free_port
from support.processes import is_running
from support.shared_server import Facts, shared_server
from support.source import REPOSITORY

INSTALL = REPOSITORY / "workspace/object-store"
SERVER = REPOSITORY / "tests/support/object_store_swift.py"
SPARE_FOLDER = REPOSITORY / ".cache"
"""Where the store keeps its objects if the temporary folder cannot hold extended attributes."""
REGION = "eu-tests-1"
DOMAIN = "s3.test"
"""A request whose Host is `<bucket>.s3.test` names its bucket there."""


@dataclass(frozen=True)
class Keys:
    """Who asks."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True)
class ObjectStore:
    """The object store of the test run."""

    endpoint_url: str
    region: str
    keys: Keys
    """May do everything."""
    guest: Keys
    """Is known, and may do nothing: AccessDenied."""
    google: str = field(repr=False)
    """The file of a Google service account, which may do everything with these buckets through Google's interface."""
    clock_shift_s: int
    """By how much its clock is wrong; what this class asks for is signed by that clock."""
    pid: int
    log_path: Path

    @property
    def access_key_id(self) -> str:
        """The first half of what may do everything."""
        return self.keys.access_key_id

    @property
    def secret_access_key(self) -> str:
        """The second half; it has characters that must be quoted in a URL."""
        return self.keys.secret_access_key

    def behind(self, proxy_url: str) -> Self:
        """Return the same store as a client sees it through a `StoreProxy`."""
        return replace(self, endpoint_url=proxy_url)

    def variables(self, bucket: str) -> dict[str, str]:
        """Return the worker's variables that lead to a bucket."""
        return {
            "BUCKET_ENDPOINT_URL": self.endpoint_url,
            "BUCKET_NAME": bucket,
            "BUCKET_ACCESS_KEY_ID": self.access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.secret_access_key,
            "BUCKET_REGION": self.region,
        }

    async def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket of the test's own; return its name."""
        bucket = name or f"test-{uuid.uuid4().hex[:12]}"
        await self._client().ask("PUT", f"/{bucket}")
        return bucket

    async def read(self, bucket: str, key: str) -> StoredObject:
        """Return an object; LookupError if there is none."""
        return await self._client().ask("GET", f"/{bucket}/{key}")

    async def write(self, bucket: str, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Store an object."""
        await self._client().ask("PUT", f"/{bucket}/{key}", body=body, content_type=content_type)

    async def set_access(self, bucket: str, key: str, canned: str) -> None:
        """Give an object one of S3's canned access lists, such as `public-read`."""
        await self._client().ask("PUT", f"/{bucket}/{key}", "acl", amz_headers={"x-amz-acl": canned})

    async def keys_in(self, bucket: str) -> list[str]:
        """Return the keys of all objects, sorted."""
        listing = await self._xml(f"/{bucket}")
        assert _texts(listing, "IsTruncated") == ["false"]
        return sorted(_texts(listing, "Contents/Key"))

    async def open_uploads(self, bucket: str) -> list[str]:
        """Return the keys for which parts have come and which nobody has completed or aborted, sorted."""
        return sorted(_texts(await self._xml(f"/{bucket}", "uploads"), "Upload/Key"))

    async def is_public(self, bucket: str, key: str) -> bool:
        """Whether the object's access list lets everybody read it."""
        grants = (await self._xml(f"/{bucket}/{key}", "acl")).findall("{*}AccessControlList/{*}Grant")
        return any(
            _texts(grant, "Grantee/URI") == [ANYONE] and _texts(grant, "Permission") == ["READ"] for grant in grants
        )

    def is_running(self) -> bool:
        """Whether the process is still there."""
        return is_running(self.pid)

    def _client(self) -> S3Client:
        return S3Client(self.endpoint_url, self.access_key_id, self.secret_access_key, self.clock_shift_s)

    async def _xml(self, path: str, resource: str = "") -> Element:
        return fromstring((await self._client().ask("GET", path, resource)).body)


@dataclass(frozen=True)
class SwiftPlan:
    """What the server reads."""

    folder: str
    port: int
    google_port: int
    clock_shift_s: int
    users: list[dict[str, str]]
    region: str = REGION
    domain: str = DOMAIN
    has_cache: bool = False


def shared_object_store(
    shared_dir: Path, owner_pid: int, environ: Mapping[str, str], *, clock_shift_s: int = 0, has_cache: bool = False
) -> ObjectStore:
    """Return the object store of this test run; the first process that asks starts it, the others wait for that.

    Args:
        shared_dir: A folder that all processes of the run know, and no other run.
        owner_pid: The process whose end ends the store.
        environ: The environment in which pytest was started.
        clock_shift_s: By how many seconds the store's clock is wrong; each figure is a store of its own.
        has_cache: Whether it remembers accounts and containers, as a deployment does that is to be fast.

    Raises:
        RuntimeError: It is not installed, or did not start, now or when another process asked.
    """

    def prepare(wanted: Path) -> tuple[Plan, Facts]:
        return _prepare(wanted, owner_pid, environ, clock_shift_s, has_cache=has_cache)

    name = f"object-store-{clock_shift_s}" + ("-cache" if has_cache else "")
    facts = shared_server(shared_dir, name, prepare)
    google = (Path(facts["folder"]) / "service-account.json").read_text(encoding="utf-8")
    owner, guest = (Keys(user["access_key_id"], user["secret_access_key"]) for user in facts["users"])
    return ObjectStore(facts["url"], REGION, owner, guest, google, clock_shift_s, facts["pid"], Path(facts["log_path"]))


def find_install(file: str) -> Path:
    """Return a file of the stores' environment.

    Raises:
        RuntimeError: There is no such environment.
    """
    found = sorted(INSTALL.glob(file))
    if not found or not (INSTALL / ".ready").exists():
        message = f"the tests of delivery need a store to deliver to; {INSTALL} has none. `make object-store` makes it."
        raise RuntimeError(message)
    return found[0]


def server_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a store needs of the environment in which pytest was started."""
    return {name: environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in environ}


def _prepare(
    wanted: Path, owner_pid: int, environ: Mapping[str, str], clock_shift_s: int, *, has_cache: bool
) -> tuple[Plan, Facts]:
    python = find_install(".venv/bin/python")
    folder, port = _find_folder(wanted), free_port()
    # AWS's secrets have `+` and `/` too, which is where quoting goes wrong.
    users = [
        {"access_key_id": f"tests:{name}", "secret_access_key": f"{secrets.token_hex(12)}+/{name}", "group": group}
        for name, group in (("owner", ".admin"), ("guest", ""))
    ]
    settings = folder / "plan.json"
    settings.touch(mode=0o600)
    swift = SwiftPlan(str(folder), port, free_port(), clock_shift_s, users, has_cache=has_cache)
    settings.write_text(json.dumps(asdict(swift)), encoding="utf-8")
    plan = Plan(
        owner_pid=owner_pid,
        command=[str(python), str(SERVER), str(settings)],
        cwd=str(folder),
        url=f"http://127.0.0.1:{port}",
        base_dir=str(folder),
        log_path=f"{wanted}.log",
        environ=server_environ(environ),
        name="the object store",
        probe="/healthcheck",
    )
    return plan, {"url": plan.url, "log_path": plan.log_path, "users": users, "folder": str(folder)}


def _find_folder(wanted: Path) -> Path:
    """Make and return a folder for the objects, whose metadata Swift keeps in extended attributes.

    Raises:
        RuntimeError: Neither the temporary folder nor the repository can hold them.
    """
    wanted.mkdir()
    if _holds_attributes(wanted):
        return wanted
    SPARE_FOLDER.mkdir(exist_ok=True)
    spare = Path(tempfile.mkdtemp(prefix="object-store-", dir=SPARE_FOLDER))
    if _holds_attributes(spare):
        return spare
    message = f"the object store needs a file system with extended attributes; neither {wanted} nor {spare} is on one"
    raise RuntimeError(message)


def _holds_attributes(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"1" * 1024)
    except OSError:
        return False
    return True


def _texts(element: Element, path: str) -> list[str]:
    """Return the texts of all elements at `path`, whatever their namespace."""
    return [item.text or "" for item in element.findall("/".join(f"{{*}}{step}" for step in path.split("/")))]
