"""Follows a page from its first block to its last, as its reader would."""

import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import aiohttp

from comfyworker.errors import WorkerError
from comfyworker.settings import list_settings, load_settings
from support.docs.blocks import DocBlock, SessionStep, session_steps
from support.docs.comparison import matches
from support.docs.documents import env_fault, json_fault, yaml_fault
from support.docs.place import RETRY, SERVER, Place
from support.docs.reasons import reason_fault
from support.docs.shell import Entered, Shell
from support.eventually import eventually

_READY_WITHIN_S = 60.0
_SOON_S = 20.0
_UP = r"(?:serves|listens on) (?:http\S+)[\s\S]*^# (?:All there is|Ready when)"
_COMMENT = re.compile(r"\s*(#.*)?$")


class Reader:
    """Does with each block what its language asks for."""

    def __init__(self, shell: Shell, place: Place, tmp_path: Path) -> None:
        """Follow in a shell that works in `place`."""
        self._shell = shell
        self._place = place
        self._tmp_path = tmp_path
        self._last: Entered | None = None
        self._told = 0
        """How many webhooks the page has shown."""
        self._by_language: dict[str, Callable[[DocBlock], Awaitable[str]]] = {
            "console": self._session,
            "sh": self._script,
            "python": self._program,
            "json": self._json,
            "yaml": self._yaml,
            "env": self._env,
            "text": self._text,
            "mermaid": self._drawing,
        }

    async def follow(self, blocks: list[DocBlock]) -> list[str]:
        """Return what is wrong with the page; after the first block that fails none is run."""
        for block in blocks:
            try:
                fault = await self._fault_of(block)
            except (AssertionError, RuntimeError) as error:
                fault = str(error)
            if fault:
                return [f"{block.place}: {fault}"]
        return await self._shell.end_servers() + self._other_repeats()

    def _other_repeats(self) -> list[str]:
        """Return the webhooks that came again with another body."""
        bodies: dict[str, set[bytes]] = {}
        for arrival in self._place.receiver.arrived:
            bodies.setdefault(arrival.id, set()).add(arrival.body)
        return [f"the webhook {name} came again, and was another" for name, found in bodies.items() if len(found) > 1]

    async def _fault_of(self, block: DocBlock) -> str:
        if block.stray:
            return f"{block.stray} is no directive; tests/support/docs/blocks.py has them"
        if block.not_run:
            return reason_fault(block.not_run) or _document_fault(block)
        if block.save_as:
            file = self._place.folder / block.save_as
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._place.put_in(block.text), encoding="utf-8")
            if block.language not in {"json", "yaml", "env"}:
                return ""
        do = self._by_language.get(block.language)
        return await do(block) if do else f"nothing here runs the language {block.language or 'of a fence without one'}"

    async def _session(self, block: DocBlock) -> str:
        if not block.text.startswith("$ "):
            return "a console block begins with `$ ` and a command"
        for step in session_steps(block):
            if fault := await self._step(step):
                return fault
        return ""

    async def _step(self, step: SessionStep) -> str:
        command = self._place.put_in(step.command)
        if SERVER.match(command):
            return await self._serve(command, step.shown)
        if command.startswith(RETRY):
            self._place.receiver.answers.clear()
        done = self._last = await self._shell.enter(command)
        if done.code != step.exit_code:
            return f"{command}\nexit code {done.code}\n{done.out[-3000:]}\n{done.err[-3000:]}"
        given = self._place.take_out(done.shown)
        # What comes on stderr has progress before it.
        if step.shown and not matches(step.shown, given, is_tail=not done.out):
            return f"{command}\nshows\n{given[:3000]}\nthe page has\n{step.shown}"
        return ""

    async def _script(self, block: DocBlock) -> str:
        script, server = _split_server(self._place.put_in(block.text))
        is_alone = "alone" in block.directives
        if is_alone and "export " in script:
            script += "\nenv -0"
        done = self._last = await (self._shell.alone(script) if is_alone else self._shell.enter(script, is_script=True))
        if done.code:
            return f"exit code {done.code}\n{script}\n{done.out[-3000:]}\n{done.err[-3000:]}"
        if "export " in script and (fault := await self._settings_fault(done if is_alone else None)):
            return fault
        return await self._serve(server, "") if server else ""

    async def _settings_fault(self, exported: Entered | None) -> str:
        """Return what is wrong with the settings that are exported by now."""
        texts = exported.out if exported else (await self._shell.enter("env -0")).out
        pairs = (pair.partition("=") for pair in texts.split("\0") if pair)
        names = {name for entry in list_settings() for name in entry.names}
        try:
            load_settings({name: value for name, _, value in pairs if name in names})
        except WorkerError as error:
            return f"sets what is refused: {error.to_dict()}"
        return ""

    async def _serve(self, command: str, shown: str) -> str:
        # Its reader has ended the one before by Ctrl-C.
        if faults := await self._shell.end_servers():
            return "\n".join(faults)
        server = await self._shell.serve(command)
        await server.until_says(f"(?m){_UP}")
        given = self._place.take_out(server.out_file.read_text(encoding="utf-8"))
        if shown and not matches(shown, given):
            return f"{command}\nsays\n{given}\nthe page has\n{shown}"
        if "8000" in self._place.ports and "vast" not in command:
            await _ready(f"http://127.0.0.1:{self._place.ports['8000']}")
        return ""

    async def _program(self, block: DocBlock) -> str:
        file = self._tmp_path / "program.py"
        file.write_text(self._place.put_in(block.text), encoding="utf-8")
        done = self._last = await self._shell.enter(f"python {file}")
        return f"exit code {done.code}\n{done.out[-3000:]}\n{done.err[-3000:]}" if done.code else ""

    async def _json(self, block: DocBlock) -> str:
        if "output" in block.directives:
            return await self._text(block)
        if "webhook" in block.directives:
            self._told += 1
            arrived = (await self._place.receiver.wait(self._told))[-1]
            given = self._place.take_out(json.dumps(arrived.told))
            return "" if matches(block.text, given) else f"the receiver got\n{given}\nthe page has\n{block.text}"
        return _document_fault(block)

    async def _yaml(self, block: DocBlock) -> str:
        return _document_fault(block)

    async def _env(self, block: DocBlock) -> str:
        folder = self._tmp_path / "env"
        folder.mkdir(exist_ok=True)
        return env_fault(self._place.put_in(block.text), folder)

    async def _text(self, block: DocBlock) -> str:
        if "output" not in block.directives:
            return "is it what the command before prints? Then it wants `<!-- output -->` above it"
        last = self._last
        if last is None:
            return "nothing was run before that could print this"

        def given() -> str:
            return self._place.take_out(last.shown)

        try:
            # What runs in the background prints it soon.
            await eventually(lambda: matches(block.text, given()), within_s=_SOON_S if last.leaves_some else 0)
        except AssertionError:
            return f"came\n{given()[:3000]}\nthe page has\n{block.text}"
        return ""

    async def _drawing(self, block: DocBlock) -> str:
        return "" if block.text.strip() else "draws nothing"


def _document_fault(block: DocBlock) -> str:
    """Return what is wrong with a document that is read, and not run."""
    if block.language == "json":
        return json_fault(block.text, is_others=bool(block.not_run))
    if block.language == "yaml":
        return yaml_fault(block.text, is_others=bool(block.not_run))
    return ""


def _split_server(script: str) -> tuple[str, str]:
    """Return a script without its last command, and that, if that serves."""
    lines = script.rstrip().split("\n")
    while lines and _COMMENT.fullmatch(lines[-1]):
        lines.pop()
    first = len(lines) - 1
    while first > 0 and lines[first - 1].endswith("\\"):
        first -= 1
    last = "\n".join(lines[first:])
    return ("\n".join(lines[:first]), last.rstrip("& ")) if lines and SERVER.match(last) else (script, "")


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as client:

        async def is_ready() -> bool:
            async with client.get(f"{url}/ready") as answer:
                return answer.status == HTTPStatus.OK

        await eventually(is_ready, within_s=_READY_WITHIN_S)
