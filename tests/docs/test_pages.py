"""What every page tells its reader to enter works, and comes to what the page shows."""

from pathlib import Path

import pytest

from support.docs.blocks import DocBlock, doc_blocks, doc_pages, page_name
from support.docs.place import Shared, place_for
from support.docs.reader import Reader
from support.docs.shell import shell

PAGES = {page: blocks for page in doc_pages() if (blocks := doc_blocks(page))}

SAVES_POSTERS = {"docs/tutorial/first-workflow.md", "docs/howto/develop-against-the-server.md"}
"""The pages at whose end a program has made pictures out of an answer."""


@pytest.mark.parametrize(("page", "blocks"), PAGES.items(), ids=[page_name(page) for page in PAGES])
async def test_a_page_does_what_it_says(page: Path, blocks: list[DocBlock], shared: Shared, tmp_path: Path) -> None:
    """Each of its blocks runs, or is read by what reads it; each that cannot says why.

    See tests/docs/README.md.
    """
    entered = tmp_path / "entered"
    entered.mkdir()
    async with (
        place_for(page, blocks, shared, tmp_path) as place,
        shell(entered, place.folder, place.environ) as bash,
    ):
        faults = await Reader(bash, place, tmp_path).follow(blocks)
        assert not faults, faults[0]
        pictures = [path for path in place.folder.glob("*.png") if path.name.startswith("poster_")]
        assert bool(pictures) == (page_name(page) in SAVES_POSTERS)
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
