"""Counting model files, and the folders that extra_model_paths.yaml adds."""

from pathlib import Path

from comfyworker.comfyui.model_folders import ModelFolder, count_folder, list_model_folders, resolve_extra_paths


def write(path: Path, size_bytes: int) -> None:
    """Write a file of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size_bytes)


def test_files_are_counted_by_folder(tmp_path: Path) -> None:
    """Subfolders count with their folder; ComfyUI's placeholders and hidden files do not count."""
    write(tmp_path / "checkpoints/a.safetensors", 3)
    write(tmp_path / "checkpoints/sdxl/b.safetensors", 4)
    write(tmp_path / "checkpoints/put_checkpoints_here", 5)
    write(tmp_path / "loras/.cache/x", 6)
    assert list_model_folders(tmp_path) == (
        ModelFolder(name="checkpoints", path=tmp_path / "checkpoints", exists=True, files=2, size_bytes=7),
        ModelFolder(name="loras", path=tmp_path / "loras", exists=True, files=0, size_bytes=0),
    )


def test_links_are_followed_once(tmp_path: Path) -> None:
    """Models on a volume are counted through their link; links in a circle, and into nothing, do no harm."""
    write(tmp_path / "volume/a.safetensors", 3)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/linked").symlink_to(tmp_path / "volume")
    (tmp_path / "volume/back").symlink_to(tmp_path / "vae")
    (tmp_path / "vae/gone.safetensors").symlink_to(tmp_path / "nowhere")
    found = count_folder("vae", tmp_path / "vae")
    assert (found.files, found.size_bytes) == (1, 3)


def test_no_folder_no_models(tmp_path: Path) -> None:
    """A folder that is not there holds nothing."""
    assert list_model_folders(tmp_path / "none") == ()


def test_extra_paths_are_resolved_as_comfyui_does() -> None:
    """Paths lie below base_path, that below ComfyUI's folder unless absolute; one entry may hold several lines."""
    content: dict[str, object] = {
        "a1111": {"base_path": "/data", "is_default": True, "loras": "lora\nlora2\n", "vae": "/abs/vae"},
        "near": {"base_path": "models2", "checkpoints": "ckpt"},
        "bare": {"clip": "clip3"},
        "empty": None,
    }
    assert list(resolve_extra_paths(content, Path("/comfyui"))) == [
        ("loras", Path("/data/lora")),
        ("loras", Path("/data/lora2")),
        ("vae", Path("/abs/vae")),
        ("checkpoints", Path("/comfyui/models2/ckpt")),
        ("clip", Path("/comfyui/clip3")),
    ]
