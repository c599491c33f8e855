"""The options that say what pictures are made into."""

from __future__ import annotations

from typing import Annotated

import typer

from comfyworker.jobs import PictureFormat


def _picture_format(text: str) -> PictureFormat:
    """Return the format that an option names, as clients may spell it, too."""
    spelled = text.strip().lower().removeprefix(".")
    try:
        return PictureFormat("jpeg" if spelled == "jpg" else spelled)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is none of {', '.join(PictureFormat)}") from error


FormatOption = Annotated[
    PictureFormat | None,
    typer.Option(
        "--format",
        help=f"Make still pictures into this format: {', '.join(PictureFormat)}. All else stays as it is. Without it, "
        "OUTPUT_FORMAT decides.",
        metavar="FORMAT",
        parser=_picture_format,
        autocompletion=lambda: [format_.value for format_ in PictureFormat],
    ),
]
QualityOption = Annotated[
    int | None, typer.Option("--quality", help="Quality for jpeg, webp and avif, from 1 to 100.", min=1, max=100)
]
StripOption = Annotated[
    bool | None,
    typer.Option(
        "--strip-metadata/--keep-metadata",
        help="Take the workflow and all other metadata out of pictures, or leave it there. Without either, "
        "STRIP_METADATA decides.",
    ),
]
