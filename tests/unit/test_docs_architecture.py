"""The page on the architecture has the rooms that there are, in the order that the import contract holds."""

import re
import tomllib

from support.markdown import blocks
from support.source import REPOSITORY

PAGE = REPOSITORY / "docs/explanation/architecture.md"
SOURCE = REPOSITORY / "src/comfyworker"
CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
_NODE = re.compile(r"^ {8}(?P<room>\w+)\[\"(?P<label>\w+): ", re.MULTILINE)
_ARROW = re.compile(r"^ {4}(?P<user>\w+) --> (?:\|[^|]*\| )?(?P<used>\w+)$", re.MULTILINE)


def layers() -> list[set[str]]:
    """Return the layers of the contract, the topmost first."""
    [found] = [contract["layers"] for contract in CONTRACTS["contracts"] if contract["type"] == "layers"]
    return [{name.strip().removeprefix("comfyworker.") for name in layer.split("|")} for layer in found]


def rows(table: int) -> list[list[str]]:
    """Return the rooms in each row of one of the page's two tables of rooms."""
    section = PAGE.read_text(encoding="utf-8").split("\n## Rooms\n")[1].partition("\n## ")[0]
    tables = [part.splitlines()[2:] for part in section.split("\n\n") if part.startswith("| room")]
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in tables[table]]


def drawing() -> str:
    """Return the text of the drawing."""
    [block] = [block for block in blocks(PAGE) if block.language == "mermaid"]
    return block.text


def test_the_rooms_stand_in_the_order_of_the_contract() -> None:
    """A row of the table is a layer of the contract, from the top down."""
    assert [set(row) for row in rows(0)] == layers()


def test_each_room_is_told_of_and_none_that_is_gone() -> None:
    """Every folder and module of the package is in one of the two tables, and nothing else is."""
    there = {path.stem for path in SOURCE.iterdir() if path.name[0] not in "_." and path.name != "py.typed"}
    assert {room for table in (0, 1) for row in rows(table) for room in row} == there


def test_the_drawing_shows_rooms() -> None:
    """What is drawn within the worker is a room, under its own name."""
    drawn = [(match["room"], match["label"]) for match in _NODE.finditer(drawing())]
    assert len(drawn) > 10
    assert [pair for pair in drawn if pair[0] != pair[1]] == []
    assert {room for room, _ in drawn} <= set().union(*layers())


def test_the_drawn_arrows_point_down() -> None:
    """A thin arrow leads from a room to one in a lower layer, as the contract allows it."""
    place = {room: index for index, layer in enumerate(layers()) for room in layer}
    arrows = [(match["user"], match["used"]) for match in _ARROW.finditer(drawing())]
    assert len(arrows) > 10
    assert [(user, used) for user, used in arrows if place[user] >= place[used]] == []
