"""The floor: the shortest road through ComfyUI that a client can take. Uses nothing of comfyworker."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson


@dataclass(frozen=True)
class Finished:
    """A prompt that has been executed."""

    prompt_id: str
    files: list[bytes]


class BareClient:
    """One WebSocket, opened once; files come from the disk as they are."""

    def __init__(self, url: str, output_dir: Path) -> None:
        """Prepare for the ComfyUI at `url`, which saves in `output_dir`."""
        self._url = url
        self._output_dir = output_dir
        self._client_id = uuid.uuid4().hex

    async def __aenter__(self) -> Self:
        """Open the WebSocket."""
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"{self._url}/ws?clientId={self._client_id}", max_msg_size=0)
        self._read: list[Path] = []
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._socket.close()
        await self._session.close()

    async def run(self, graph: dict[str, dict[str, Any]]) -> Finished:
        """Run one prompt."""
        return (await self.run_all([graph]))[0]

    async def run_all(self, graphs: list[dict[str, dict[str, Any]]]) -> list[Finished]:
        """Submit all prompts at once, and read the files of each when it ends."""
        outputs: dict[str, list[dict[str, Any]]] = {}
        for graph in graphs:
            prompt_id = str(uuid.uuid4())
            outputs[prompt_id] = []
            body = orjson.dumps({"prompt": graph, "prompt_id": prompt_id, "client_id": self._client_id})
            headers = {"Content-Type": "application/json"}
            async with self._session.post(f"{self._url}/prompt", data=body, headers=headers) as answer:
                answer.raise_for_status()
        finished: list[Finished] = []
        while len(finished) < len(graphs):
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                continue
            event = orjson.loads(message.data)
            data, prompt_id = event["data"], event["data"].get("prompt_id")
            if prompt_id not in outputs:
                continue
            if event["type"] == "executed":
                outputs[prompt_id] += data["output"]["images"]
            elif event["type"] == "execution_error":
                raise RuntimeError(data["exception_message"])
            elif event["type"] == "executing" and data["node"] is None:
                finished.append(Finished(prompt_id, self._read_files(outputs[prompt_id])))
        return finished

    def remove_files(self) -> None:
        """Delete all files read so far; apart, so that nobody waits for it."""
        while self._read:
            self._read.pop().unlink()

    def _read_files(self, entries: list[dict[str, Any]]) -> list[bytes]:
        paths = [self._output_dir / entry["subfolder"] / entry["filename"] for entry in entries]
        self._read += paths
        return [path.read_bytes() for path in paths]
