"""What is to be downloaded, what its source says of it, and what was downloaded."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Download(BaseModel):
    """A file that shall be in a folder."""

    model_config = ConfigDict(frozen=True)

    url: str
    """`https://…`, `hf://owner/name/path`, `s3://bucket/key`, `r2://bucket/key`, `file:///…`, or a path."""
    folder: Path
    filename: str | None = None
    """Its name there; None is the name that its source gives it."""
    sha256: str | None = None
    """What its content must have, in 64 hexadecimal digits."""
    size_bytes: int | None = None
    """How long it must be."""


class Remote(BaseModel):
    """What a source says of a file, before any of it is fetched."""

    model_config = ConfigDict(frozen=True)

    filename: str
    size_bytes: int | None = None
    etag: str | None = None
    sha256: str | None = None
    """The source's own word on the content; None where it says nothing."""
    takes_ranges: bool = False
    """Whether parts of it can be fetched by themselves, so that it can be resumed."""


class Receipt(BaseModel):
    """A file that was downloaded, whole and looked at."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Where it came from, as `plain_url` writes it."""
    filename: str
    size_bytes: int
    sha256: str
    mtime_ns: int
    """When the file was last changed, by its file system."""
    etag: str | None = None
    fetched_bytes: int = 0
    """What went over the network for it: less than the size where an earlier try had left some."""

    def describes(self, path: Path) -> bool:
        """Tell whether a file has the size and the time that it had; its content is not read."""
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class BucketModel(BaseModel):
    """A model in a bucket that is laid out as ComfyUI's models folder is."""

    model_config = ConfigDict(frozen=True)

    url: str
    """`s3://bucket/key`, in the scheme that the bucket was named with."""
    destination: str
    """The folder that it lies in, below the listed prefix: `loras/wan`; empty if in none."""
    filename: str
    size_bytes: int
    etag: str | None = None
