"""requirements.txt in all the forms that people write."""

import codecs
from pathlib import Path

import pytest

from comfyworker.provision.nodes.requirements import parse_needs, read_needs


def write(folder: Path, text: str | bytes, name: str = "requirements.txt") -> None:
    """Write a file of a pack."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def texts(folder: Path) -> list[str]:
    """Return the requirements as uv will get them."""
    needs = read_needs(folder)
    assert needs is not None
    assert needs.problems == ()
    return [need.text for need in needs.needs]


def test_comments_blank_lines_and_continuations(tmp_path: Path) -> None:
    """What pip reads as one requirement is one."""
    write(tmp_path, "# all of it\n\nnumpy  # fast\nopencv-python>=4.8,\\\n  <5\n  scipy ; python_version < '4'\n")
    assert texts(tmp_path) == ["numpy", "opencv-python>=4.8,  <5", "scipy ; python_version < '4'"]


@pytest.mark.parametrize(
    "raw",
    [
        codecs.BOM_UTF8 + b"numpy # caf\xc3\xa9\n",
        "numpy # café\n".encode("latin-1"),
        codecs.BOM_UTF16_LE + "numpy # café\n".encode("utf-16-le"),
        b"numpy\r\n",
    ],
)
def test_any_encoding(tmp_path: Path, raw: bytes) -> None:
    """Byte order marks, Latin-1, and what PowerShell writes."""
    write(tmp_path, raw)
    assert texts(tmp_path) == ["numpy"]


def test_files_that_it_names_are_read(tmp_path: Path) -> None:
    """Relative to the file that names them, once around at most, and only within the pack."""
    write(tmp_path, "-r req/base.txt\nscipy\n--requirement=../outside.txt\n")
    write(tmp_path, "numpy\n-r more.txt\n", "req/base.txt")
    write(tmp_path, "einops\n-r base.txt\n", "req/more.txt")
    write(tmp_path.parent, "secret\n", "outside.txt")
    needs = read_needs(tmp_path)
    assert needs is not None
    names = [need.name for need in needs.needs]
    assert set(names) == {"numpy", "einops", "scipy"}
    assert any("names a file that is not in its folder ('../outside.txt')" in note for note in needs.notes)


def test_urls_keep_their_package_names(tmp_path: Path) -> None:
    """So that a torch by URL is known as torch."""
    lines = [
        "git+https://github.com/owner/sam2.git@main#egg=SAM_2",
        "https://host/whl/torch-2.1.0%2Bcu121-cp311-cp311-linux_x86_64.whl",
        "insightface @ https://host/insightface-0.7.3-cp311-cp311-linux_x86_64.whl",
        "git+https://github.com/owner/thing",
    ]
    write(tmp_path, "\n".join(lines))
    needs = read_needs(tmp_path)
    assert needs is not None
    assert [(need.name, need.text) for need in needs.needs] == list(
        zip(["sam-2", "torch", "insightface", None], lines, strict=True)
    )


def test_indexes_and_pages_with_wheels(tmp_path: Path) -> None:
    """Over https they are followed; torch's own are not, since torch stays; what is not followed is told."""
    write(
        tmp_path,
        "--extra-index-url https://download.pytorch.org/whl/cu121\n-i https://pypi.org/simple\n"
        "--find-links https://host/wheels\n-f http://insecure/wheels\n--pre\n--index-url=https://other/simple\nnumpy\n",
    )
    needs = read_needs(tmp_path)
    assert needs is not None
    assert needs.indexes == ("https://pypi.org/simple", "https://other/simple")
    assert needs.links == ("https://host/wheels",)
    assert needs.notes == (
        "requirements.txt line 4: '-f http://insecure/wheels' is not followed",
        "requirements.txt line 5: '--pre' is not followed",
    )


def test_packages_within_the_pack(tmp_path: Path) -> None:
    """A folder or wheel of its own becomes a path that uv finds; one outside is no requirement."""
    write(tmp_path, "x", "wheels/thing-1.0-py3-none-any.whl")
    write(tmp_path, "x", "vendored/setup.py")
    write(tmp_path, "./wheels/thing-1.0-py3-none-any.whl\n-e ./vendored\n./../../etc\n")
    needs = read_needs(tmp_path)
    assert needs is not None
    assert [need.text for need in needs.needs] == [
        str(tmp_path / "wheels/thing-1.0-py3-none-any.whl"),
        str(tmp_path / "vendored"),
    ]
    assert needs.problems == ("requirements.txt line 3: './../../etc' is no requirement that can be understood",)


def test_hashes_are_left_out(tmp_path: Path) -> None:
    """With hashes for some, uv would want them for all packs."""
    write(tmp_path, "numpy==2.0 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n")
    assert texts(tmp_path) == ["numpy==2.0"]


def test_lines_that_nobody_understands_are_named() -> None:
    """With where they stand."""
    needs = parse_needs(["numpy", "opencv-python=4.8", "pip install x"], source="`pip`")
    assert needs.problems == (
        "`pip` line 2: 'opencv-python=4.8' is no requirement that can be understood",
        "`pip` line 3: 'pip install x' is no requirement that can be understood",
    )


def test_no_file_is_no_needs(tmp_path: Path) -> None:
    """Then the registry's list counts."""
    assert read_needs(tmp_path) is None
