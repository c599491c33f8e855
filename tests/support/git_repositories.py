"""Real git repositories, made by the tests, and served over HTTP as GitHub and as a plain web server would."""

import asyncio
import base64
import os
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from support.ports import free_port
from support.web_server import WebServer

NODE_CODE = """
class {name}:
    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}

    def run(self):
        return ("{text}",)


NODE_CLASS_MAPPINGS = {{"{name}": {name}}}
"""
_DIMMING_CODE = """
class {name}:
    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"image": ("IMAGE",)}}}}

    def run(self, image):
        return (image * 0.5,)


NODE_CLASS_MAPPINGS = {{"{name}": {name}}}
"""
_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Tests", "GIT_AUTHOR_EMAIL": "tests@example.org", "GIT_COMMITTER_NAME": "Tests",
    "GIT_COMMITTER_EMAIL": "tests@example.org", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


def node_code(name: str, text: str = "hello") -> str:
    """Return an `__init__.py` that brings one class of nodes, which returns `text`."""
    return NODE_CODE.format(name=name, text=text)


def dimming_node_code(name: str) -> str:
    """Return an `__init__.py` that brings one class of nodes, which makes pictures half as bright."""
    return _DIMMING_CODE.format(name=name)


def git(folder: Path, *args: str) -> str:
    """Run git in `folder` and return what it printed."""
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *args]
    done = subprocess.run(command, env={**os.environ, **_ENVIRONMENT}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


class GitRepository:
    """A repository with a work tree, whose default branch is `main`."""

    def __init__(self, path: Path) -> None:
        """Make it, empty."""
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        """Where it is fetched from over this disk."""
        return f"file://{self.path}"

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return git(self.path, "rev-parse", "HEAD")

    def commit(self, files: Mapping[str, str | bytes | None] | None = None, message: str = "change") -> str:
        """Write files (None takes one away), commit them, and return the commit."""
        for name, content in (files or {}).items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", message)
        return self.head

    def tag(self, *names: str, annotated: bool = False) -> None:
        """Tag the commit that is checked out."""
        for name in names:
            git(self.path, "tag", *(("--annotate", "--message", name) if annotated else ()), name)

    def switch(self, branch: str) -> None:
        """Check a branch out, making it if it is not there."""
        exists = branch in git(self.path, "branch", "--format=%(refname:short)").split()
        git(self.path, "switch", "--quiet", *(() if exists else ("--create",)), branch)

    def rewrite(self, files: Mapping[str, str | bytes | None], message: str = "rewritten") -> str:
        """Replace the last commit, as a forced push does, and return the new one."""
        git(self.path, "reset", "--quiet", "--hard", "HEAD~1")
        return self.commit(files, message)

    def add_submodule(self, other: "GitRepository", name: str) -> str:
        """Take another repository in as a submodule, and return the commit."""
        git(self.path, "submodule", "--quiet", "add", other.url, name)
        return self.commit(message=f"submodule {name}")


class GitServer(WebServer):
    """Serves the repositories below a folder over HTTP; an async context manager.

    `/smart/NAME` speaks git's protocol, `/private/NAME` does so for those with the password only, `/dumb/NAME` serves
    files as a plain web server does.
    """

    PASSWORD = "a-secret-token"

    def __init__(self, root: Path, *, tls: ssl.SSLContext | None = None) -> None:
        """Serve what lies below `root`, over TLS if there is a context."""
        self.root = root
        self.tls = tls
        self.port = free_port()
        self.authorizations: list[str] = []
        """What each request had in that header, in order."""

    def url(self, repository: GitRepository, kind: str = "smart") -> str:
        """Return where a repository is served."""
        git(repository.path, "update-server-info")
        return f"http://127.0.0.1:{self.port}/{kind}/{repository.path.relative_to(self.root)}"

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/dumb/{path:.*}", self._serve_file)
        app.router.add_route("*", "/{kind:smart|private}/{path:.*}", self._serve_git)
        return app

    async def _serve_file(self, request: web.Request) -> web.StreamResponse:
        name, _, rest = request.match_info["path"].partition("/")
        path = self.root / name / ".git" / rest
        if not path.is_file():
            raise web.HTTPNotFound
        return web.Response(body=path.read_bytes())

    async def _serve_git(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        self.authorizations.append(given)
        if request.match_info["kind"] == "private":
            pair = base64.b64encode(f"x-access-token:{self.PASSWORD}".encode()).decode()
            if given != f"Basic {pair}":
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="tests"'})
        body = await request.read()
        environ = {
            **os.environ, **_ENVIRONMENT, "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": "/" + request.match_info["path"], "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method, "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", "-c", "safe.directory=*", "http-backend",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ,
        )  # fmt: skip
        out, _ = await process.communicate(body)
        head, _, rest = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=rest)
