"""Which config.yml applies, and how CONFIG_YML reaches the volume."""

import base64
from pathlib import Path

import pytest

from comfyworker.errors import InvalidConfig
from comfyworker.provision.config.finding import (
    ConfigOrigin,
    decode_variable,
    digest_of,
    find_config,
    read_config,
    write_config,
)
from comfyworker.provision.config.reading import parse_config
from comfyworker.settings import ProvisionSettings

_VAE = "models:\n  - url: https://a/x.bin\n    destination: vae\n"
_LORA = "models:\n  - url: https://a/y.bin\n    destination: loras\n"


def folder_of(path: Path, text: str | None, name: str = "config.yml") -> Path:
    """Return a folder with a config, or without one."""
    path.mkdir()
    if text is not None:
        (path / name).write_text(text, encoding="utf-8")
    return path


def test_the_variable_wins_over_the_volume_and_that_over_the_working_directory(tmp_path: Path) -> None:
    """The order of the config.yml worker."""
    volume, cwd = folder_of(tmp_path / "volume", _VAE), folder_of(tmp_path / "cwd", _LORA)
    bare = folder_of(tmp_path / "bare", None)
    variable = ProvisionSettings(config_yml=_LORA)
    origins = [
        found.origin if (found := find_config(settings, volume=place, cwd=here)) else None
        for settings, place, here in (
            (variable, volume, cwd),
            (ProvisionSettings(), volume, cwd),
            (ProvisionSettings(), bare, cwd),
            (ProvisionSettings(), None, bare),
        )
    ]
    assert origins == [ConfigOrigin.VARIABLE, ConfigOrigin.VOLUME, ConfigOrigin.FOLDER, None]


def test_a_wrong_config_is_told_and_the_next_one_is_not_taken(tmp_path: Path) -> None:
    """A typo on the volume must not bring back what the image was built with."""
    volume, cwd = folder_of(tmp_path / "volume", "model: []"), folder_of(tmp_path / "cwd", _VAE)
    with pytest.raises(InvalidConfig, match="did you mean 'models'"):
        find_config(ProvisionSettings(), volume=volume, cwd=cwd)


def test_a_named_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """CONFIG_PATH is never silently passed over, and no path is in the message."""
    with pytest.raises(InvalidConfig) as caught:
        find_config(ProvisionSettings(config_path=Path("gone.yml")), volume=None, cwd=tmp_path)
    assert caught.value.message == "gone.yml cannot be read: No such file or directory"


def test_config_yaml_is_a_name_too_and_a_mark_at_its_begin_is_no_part_of_it(tmp_path: Path) -> None:
    """Editors write both."""
    folder = folder_of(tmp_path / "cwd", "\ufeff" + _VAE, name="config.yaml")
    found = find_config(ProvisionSettings(), volume=None, cwd=folder)
    assert found is not None
    assert found.config.models[0].destination == "vae"


@pytest.mark.parametrize(
    "wrap", [lambda text: text, lambda text: "\n".join(text[at : at + 20] for at in range(0, len(text), 20))]
)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_understood_however_it_is_wrapped(wrap: object, encode: object) -> None:
    """As web pages and `base64` print it."""
    text = _VAE + "# ÿ¿ÿ¿\n"
    assert callable(encode)
    assert callable(wrap)
    assert decode_variable(wrap(encode(text.encode()).decode())) == text
    assert decode_variable(encode(text.encode()).decode().rstrip("=")) == text


def test_plain_yaml_is_taken_as_it_is() -> None:
    """Only what cannot be YAML is decoded."""
    assert decode_variable(_VAE) == _VAE


def test_what_looks_like_base64_and_is_none_is_told() -> None:
    """It was cut when it was pasted, most likely."""
    with pytest.raises(InvalidConfig, match="CONFIG_YML is neither YAML nor base64 of it"):
        decode_variable("/////w")


def test_writing_to_the_volume_keeps_what_was_there(tmp_path: Path) -> None:
    """Who edited the file on the volume can have it back; writing the same again changes nothing."""
    volume = folder_of(tmp_path / "volume", _VAE)
    found = find_config(ProvisionSettings(config_yml=_LORA), volume=volume, cwd=tmp_path)
    assert found is not None
    assert write_config(found, volume)
    assert not write_config(found, volume)
    assert {path.name: path.read_text() for path in volume.iterdir()} == {
        "config.yml": _LORA,
        "config.yml.previous": _VAE,
    }


def test_the_digest_is_of_what_is_asked_for(tmp_path: Path) -> None:
    """Comments, spaces and the order of keys cost no new look at a hundred models."""
    same = parse_config("# mine\n\nmodels:\n  - destination: models/vae\n    url: https://a/x.bin\n")
    other = parse_config(_LORA)
    (tmp_path / "config.yml").write_text(_VAE)
    found = read_config(tmp_path / "config.yml", ConfigOrigin.FOLDER)
    assert found.digest == digest_of(same)
    assert found.digest != digest_of(other)
