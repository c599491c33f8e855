"""Tokens say which asset, and until when; nobody else can make or change one."""

import stat
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import Forbidden
from comfyworker.hosts.http.signing import UrlSigner, load_signer

SIGNER = UrlSigner(bytes(32))
NOW = 1_800_000_000.0


@given(st.uuids(), st.integers(min_value=0, max_value=2**40))
def test_a_token_is_opened_to_its_asset(asset_id: uuid.UUID, expires_at: int) -> None:
    """What was put in comes out until its time is over."""
    token = SIGNER.token(str(asset_id), expires_at=expires_at)
    assert SIGNER.open(token, now=expires_at) == str(asset_id)
    with pytest.raises(Forbidden, match="expired"):
        SIGNER.open(token, now=expires_at + 1)


@given(st.integers(min_value=0, max_value=319), st.uuids())
def test_no_bit_can_be_changed(bit: int, asset_id: uuid.UUID) -> None:
    """A token with one bit changed is nobody's."""
    token = SIGNER.token(str(asset_id), expires_at=NOW)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place, shift = divmod(bit, 6)
    changed = alphabet[alphabet.index(token[place]) ^ (1 << (5 - shift))]
    with pytest.raises(Forbidden, match="not made by this server"):
        SIGNER.open(token[:place] + changed + token[place + 1 :], now=NOW)


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    """Whatever stands in the place of a token, the answer is that it is none."""
    with pytest.raises(Forbidden):
        SIGNER.open(text, now=NOW)


def test_another_servers_token_is_refused() -> None:
    """A token is good for the server that has its key."""
    token = UrlSigner(bytes([1] * 32)).token(str(uuid.uuid4()), expires_at=NOW)
    with pytest.raises(Forbidden):
        SIGNER.open(token, now=NOW)


def test_the_key_outlives_a_restart(tmp_path: Path) -> None:
    """The second start signs with the first one's key, which nobody else can read."""
    token = load_signer(tmp_path).token(str(uuid.UUID(int=7)), expires_at=NOW)
    assert load_signer(tmp_path).open(token, now=NOW) == str(uuid.UUID(int=7))
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_cut_short_is_made_anew(tmp_path: Path) -> None:
    """What a full disk left of a key is not used."""
    load_signer(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"short")
    load_signer(tmp_path)
    assert len(file.read_bytes()) == 32
