"""The variables that a page tells its reader to set lead where it says."""

import subprocess
from pathlib import Path

import pytest

from comfyworker.delivery.store import find_location
from comfyworker.settings import load_settings
from support.docs.belongings import make_files
from support.docs.blocks import DocBlock, doc_blocks, page_name
from support.source import REPOSITORY

HOWTO = REPOSITORY / "docs/howto"
STORAGE, SERVE, OPERATE = (
    HOWTO / f"{name}.md" for name in ("deliver-to-object-storage", "serve-over-http", "operate-the-server")
)
PLACES = [
    ("s3", "bucket 'my-bucket' at https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
    ("s3", "bucket 'my-bucket' at https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "auto"),
    ("s3", "bucket 'my-bucket' at https://s3.us-west-004.backblazeb2.com", "us-west-004"),
    ("s3", "bucket 'my-bucket' at http://minio.internal:9000", "us-east-1"),
    ("gcs", "bucket 'my-bucket' at Google Cloud Storage", "us-east-1"),
    ("azure", "container 'my-container' at Azure", "us-east-1"),
    ("file", "the folder 'outputs'", "us-east-1"),
]
"""Where the page's variables lead, in its order: the kind of storage, what messages call it, the region."""


def exports(block: DocBlock, folder: Path) -> dict[str, str]:
    """Return what the `export` lines of a block set."""
    lines = [line for line in block.text.splitlines() if line.startswith("export ")]
    script = "\n".join([*lines, "env -0"])
    done = subprocess.run(["bash", "-c", script], cwd=folder, env={}, capture_output=True, check=True)
    pairs = (pair.partition("=") for pair in done.stdout.decode().split("\0") if pair)
    return {name: value for name, _, value in pairs if name not in {"PWD", "SHLVL", "_"}}


def blocks_that_export(page: Path) -> list[DocBlock]:
    """Return the blocks of a page that set variables."""
    return [block for block in doc_blocks(page) if block.language == "sh" and "export " in block.text]


def test_the_variables_for_each_storage_lead_there(tmp_path: Path) -> None:
    """As the page says, and none of them is left out here."""
    make_files(["key.json"], tmp_path)
    variables = [exports(block, tmp_path) for block in blocks_that_export(STORAGE)]
    stores = [load_settings(given).store for given in variables if not given.keys() <= {"STATE_DIR"}]
    found = [find_location(store) for store in stores]
    assert [(str(place.kind), place.place, place.region) for place in found if place is not None] == PLACES


@pytest.mark.parametrize("page", [SERVE, OPERATE], ids=page_name)
def test_the_variables_for_a_server_are_its_settings(page: Path, tmp_path: Path) -> None:
    """There are keys where the page sets keys, and clients are told the address that it names."""
    variables = {name: text for block in blocks_that_export(page) for name, text in exports(block, tmp_path).items()}
    http = load_settings(variables).http
    assert variables
    assert bool(http.api_keys) == ("API_KEYS" in variables)
    assert http.public_url == variables.get("PUBLIC_URL")
