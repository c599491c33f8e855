"""A Comfy Registry of a test's own: the routes that are asked, with the field names of the real one."""

import io
import zipfile
from collections.abc import Mapping

from aiohttp import web

from support.ports import free_port
from support.web_server import WebServer


def make_zip(files: Mapping[str, str | bytes]) -> bytes:
    """Return an archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class ComfyRegistry(WebServer):
    """Serves custom nodes by name and version; an async context manager."""

    def __init__(self) -> None:
        """Begin with none."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.repositories: dict[str, str] = {}
        self._versions: dict[str, dict[str, tuple[bytes, dict[str, object]]]] = {}

    def publish(self, name: str, version: str, archive: bytes, **fields: object) -> None:
        """Add a version; the last one is the latest."""
        self._versions.setdefault(name, {})[version] = (archive, fields)

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/nodes/{name}", self._node)
        app.router.add_get("/nodes/{name}/install", self._install)
        app.router.add_get("/nodes/{name}/versions", self._list)
        app.router.add_get("/cdn/{name}/{version}/node.zip", self._archive)
        return app

    def _find(self, request: web.Request) -> dict[str, tuple[bytes, dict[str, object]]]:
        versions = self._versions.get(request.match_info["name"])
        if versions is None:
            raise web.HTTPNotFound(text='{"message": "Node not found"}', content_type="application/json")
        return versions

    async def _node(self, request: web.Request) -> web.Response:
        self._find(request)
        name = request.match_info["name"]
        return web.json_response({"id": name, "repository": self.repositories.get(name, "")})

    async def _install(self, request: web.Request) -> web.Response:
        versions = self._find(request)
        version = request.query.get("version", list(versions)[-1])
        if version not in versions:
            raise web.HTTPNotFound(text='{"message": "Node version not found"}', content_type="application/json")
        name = request.match_info["name"]
        answer = {
            "id": "0a1b", "node_id": name, "version": version, "dependencies": [], "deprecated": False,
            "status": "NodeVersionStatusActive", "downloadUrl": f"{self.url}/cdn/{name}/{version}/node.zip",
        }  # fmt: skip
        return web.json_response({**answer, **versions[version][1]})

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response([{"version": version} for version in self._find(request)])

    async def _archive(self, request: web.Request) -> web.Response:
        return web.Response(body=self._find(request)[request.match_info["version"]][0], content_type="application/zip")
