"""What follows the pages sees their faults."""

from pathlib import Path

import pytest

from support.docs.blocks import DocBlock, doc_blocks, doc_pages, session_steps
from support.docs.comparison import matches
from support.docs.documents import env_fault, json_fault, yaml_fault
from support.docs.reasons import reason_fault
from support.docs.shell import shell


def blocks_of(text: str, folder: Path) -> list[DocBlock]:
    """Return the blocks of a page with this text."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return doc_blocks(page)


def test_blocks_have_what_their_author_says(tmp_path: Path) -> None:
    """Directives stand above the fence, a file's name in the sentence before; a fence may be indented."""
    text = (
        "Save this as `a/b.json`; it is short:\n\n<!-- output -->\n<!-- not run: needs a GPU: 12 GB -->\n"
        "```json\n{}\n```\n\n1. One\n\n   ```sh\n   true\n     false\n   ```\n\n<!-- nor run: x -->\n```\n\n```\n"
    )
    first, second, third = blocks_of(text, tmp_path)
    assert (first.language, first.text, first.save_as, first.line) == ("json", "{}\n", "a/b.json", 5)
    assert first.directives == {"output": "", "not run": "needs a GPU: 12 GB"}
    assert (second.language, second.text, second.directives) == ("sh", "true\n  false\n", {})
    assert (third.language, third.stray) == ("", "<!-- nor run: x -->")


def test_a_session_is_read_as_its_reader_does(tmp_path: Path) -> None:
    """Commands go on behind a backslash and on lines with `>`; what follows is what they print."""
    [block] = blocks_of("```console\n$ a \\\n  b\nout\n> no\n$ c <<E\n> d\n> E\n$ false\n$ echo $?\n1\n```\n", tmp_path)
    assert [(step.command, step.shown, step.exit_code) for step in session_steps(block)] == [
        ("a \\\n  b", "out\n> no", 0),
        ("c <<E\nd\nE", "", 0),
        ("false", "", 1),
    ]


@pytest.mark.parametrize(
    ("shown", "given", "is_same"),
    [
        ("took 2 s", "took 31.5  s", True),
        ("took 2 s", "took 31.5 min", False),
        ('{"a": ["x y", …]}', '{"a":["x y",2]}', True),
        ('{"a": "x y"}', '{"a":"xy"}', False),
        ("HTTP/1.1 404 …", "HTTP/1.1 404 Not Found", True),
        ("HTTP/1.1 404 …", "HTTP/1.1 200 OK", False),
        ("msg_290ed3d2c09572b3338eb320db913d1a", "msg_000ed3d2c09572b3338eb320db913d1f", True),
    ],
)
def test_what_is_shown_is_compared(shown: str, given: str, is_same: bool) -> None:  # a parameter
    """Figures, ids and layout may differ, words and an answer's status may not."""
    assert matches(shown, given) is is_same


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"input": {"workflow": {"1": {"class_type": "A", "inputs": {}}}}}', ""),
        ('{"input": {"workflow": {"1": {"class_type": "A", "inputs": {}}}, "colour": 1}}', "has what nobody knows"),
        ('{"input": {"images": 1}}', "is refused"),
        ('{"name": "a.png", "image": "iVBORw0KGgo…"}', ""),
        ('{"class_type": "A", "inputs": {}}', ""),
        ('{"Rules": []}', "is of no known kind"),
        ("{…}", "is no JSON"),
    ],
    ids=["request", "unknown key", "wrong type", "picture", "node", "unknown kind", "no JSON"],
)
def test_json_is_read_by_what_reads_it_in_the_worker(text: str, fault: str) -> None:
    """A request, a workflow, and parts of them; nothing in it may be unknown."""
    found = json_fault(text)
    assert found.startswith(fault)
    assert bool(found) is bool(fault)


def test_yaml_and_env_are_read_too(tmp_path: Path) -> None:
    """By the readers of config.yml and of settings."""
    assert yaml_fault("models: []\n") == ""
    assert yaml_fault("colour: red\n").startswith("is refused")
    assert yaml_fault("colour: red\n", is_others=True) == ""
    assert yaml_fault("a: [\n", is_others=True).startswith("is no YAML")
    assert env_fault("LOG_LEVEL=debug\n", tmp_path) == ""
    assert env_fault("LOG_LEVEL=loud\n", tmp_path).startswith("is refused")
    assert env_fault("COLOUR=red\n", tmp_path).startswith("has names that are no settings: ['COLOUR']")


def test_only_known_reasons_keep_a_block_from_being_run() -> None:
    """A need that this machine cannot meet, or a test that runs it."""
    assert reason_fault("needs RunPod: an account") == ""
    assert reason_fault("run by tests/docs/test_harness.py") == ""
    assert reason_fault("run by tests/docs/test_gone.py") == "there is no tests/docs/test_gone.py"
    assert reason_fault("no time").startswith("'no time' is none of the reasons")


async def test_the_shell_is_one_from_block_to_block(tmp_path: Path) -> None:
    """Variables, the folder and programs in the background stay; what runs alone leaves nothing; a failure is seen."""
    (tmp_path / "entered").mkdir()
    environ = {"PATH": "/usr/bin:/bin"}
    async with shell(tmp_path / "entered", tmp_path, environ) as bash:
        await bash.enter("export A=1\nmkdir sub\ncd sub", is_script=True)
        assert (await bash.enter('echo "$A $PWD"')).out == f"1 {tmp_path}/sub\n"
        assert (await bash.alone("export A=2; echo $A")).out == "2\n"
        assert (await bash.enter("echo $A; false")).code == 1
        server = await bash.serve("bash -c 'echo up; exec tail -f /dev/null'")
        await server.until_says("up")
        assert server.is_running()
        assert await bash.end_servers() == ["what served ended with 143:\n"]
        assert (await bash.enter("false\ntrue", is_script=True)).code == 1


def test_each_block_of_each_page_is_found() -> None:
    """None is left out because of how it is written: as many fences begin as blocks were found."""
    for page in doc_pages():
        fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(doc_blocks(page)), page
