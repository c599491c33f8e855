"""Write examples/request.json: the poster workflow with its input picture inline, as a platform would send it.

The picture is made smaller first, so that the request stays readable.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZE = (384, 256)


def small_picture() -> str:
    """Return the input picture, smaller, as a data URI."""
    buffer = io.BytesIO()
    with Image.open(EXAMPLES / "input.png") as picture:
        small = picture.convert("RGB").resize(SIZE, Image.Resampling.HAMMING)
        small.save(buffer, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def make_request() -> dict[str, object]:
    """Return the request."""
    workflow = json.loads((EXAMPLES / "poster.json").read_text(encoding="utf-8"))
    return {"input": {"workflow": workflow, "images": [{"name": "input.png", "image": small_picture()}]}}


if __name__ == "__main__":
    text = json.dumps(make_request(), indent=2, ensure_ascii=False) + "\n"
    (EXAMPLES / "request.json").write_text(text, encoding="utf-8")
