"""Requests that Vast's router has signed for this worker pass; others do not."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, get_args

import aiohttp
import pytest
from aiohttp import test_utils, web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from comfyworker.errors import InvalidRequest, QueueFull, Unauthorized
from comfyworker.hosts.vast.place import Place
from comfyworker.hosts.vast.pubkey import PublicKeys
from comfyworker.hosts.vast.reports import open_platform_session
from comfyworker.hosts.vast.signatures import Signatures, SignedForm, parse_auth
from support.ports import free_port
from support.vast_platform import TOKEN, SignedFields, Signer, VastPlatform

URL = "http://203.0.113.7:41234"
PLACE = Place(id=4711, url=URL, report_addresses=(), token=SecretStr(TOKEN))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Return the session that the key is asked for over."""
    async with open_platform_session() as session:
        yield session


@pytest.fixture
async def platform() -> AsyncIterator[VastPlatform]:
    """Return an autoscaler."""
    async with VastPlatform() as platform:
        yield platform


@pytest.fixture
async def keys(platform: VastPlatform, session: aiohttp.ClientSession) -> PublicKeys:
    """Return the platform's key."""
    keys = PublicKeys([platform.url], session)
    await keys.fetch()
    return keys


@pytest.fixture
def signatures(keys: PublicKeys) -> Signatures:
    """Return what checks with that key."""
    return Signatures(keys, PLACE, unsecured=False)


@pytest.mark.parametrize("covers", get_args(SignedFields))
async def test_what_the_router_signed_passes(
    platform: VastPlatform, signatures: Signatures, covers: SignedFields
) -> None:
    """Today's signature covers the url; older ones covered every field there was."""
    auth = parse_auth(platform.signer.auth_data(URL, covers=covers, cost="242.0"))
    assert await signatures.check(auth) is (SignedForm.URL_ONLY if covers == "url" else SignedForm.WHOLE)


async def test_a_field_that_nobody_knows_may_be_signed_as_well(platform: VastPlatform, signatures: Signatures) -> None:
    """An older form with another field still covers the fields as they came."""
    told = {"aaa": 1, "cost": 100, "endpoint": "e", "reqnum": 1, "request_idx": 2, "url": URL}
    auth = parse_auth({**told, "signature": platform.signer.sign(told)})
    assert await signatures.check(auth) is SignedForm.WHOLE


@pytest.mark.parametrize("change", [{"reqnum": 2}, {"cost": 1}, {"endpoint": "another"}, {"request_idx": 102}])
async def test_a_changed_field_breaks_an_older_signature(
    platform: VastPlatform, signatures: Signatures, change: dict[str, Any]
) -> None:
    """It covers them all."""
    with pytest.raises(Unauthorized):
        await signatures.check(parse_auth(platform.signer.auth_data(URL, covers="whole") | change))


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", "é", "A" * 344])
async def test_what_is_no_signature_is_refused(platform: VastPlatform, signatures: Signatures, signature: str) -> None:
    """Whatever stands there: one clear refusal."""
    with pytest.raises(Unauthorized, match="is not Vast's"):
        await signatures.check(parse_auth({**platform.signer.auth_data(URL), "signature": signature}))


async def test_another_key_signs_nothing(signatures: Signatures) -> None:
    """Only Vast's router lets in."""
    with pytest.raises(Unauthorized, match="is not Vast's"):
        await signatures.check(parse_auth(Signer().auth_data(URL)))


async def test_what_was_signed_for_another_worker_is_refused(platform: VastPlatform, signatures: Signatures) -> None:
    """A signature of today covers nothing else: it would open every worker of Vast's."""
    with pytest.raises(Unauthorized, match="for another worker's url"):
        await signatures.check(parse_auth(platform.signer.auth_data("http://203.0.113.8:41234")))


async def test_before_the_key_is_there_requests_are_to_come_again(
    platform: VastPlatform, session: aiohttp.ClientSession
) -> None:
    """The client retries a 503; a 401 would be its last word."""
    early = Signatures(PublicKeys([platform.url], session), PLACE, unsecured=False)
    with pytest.raises(QueueFull) as caught:
        await early.check(parse_auth(platform.signer.auth_data(URL)))
    assert (caught.value.http_status, caught.value.retryable) == (503, True)


async def test_unsecured_lets_everything_pass() -> None:
    """It needs neither key nor place."""
    open_to_all = Signatures(None, None, unsecured=True)
    assert await open_to_all.check(parse_auth(Signer().auth_data(URL))) is SignedForm.NONE


def test_a_worker_that_checks_needs_a_key() -> None:
    """That one is missing never means that all may come in."""
    with pytest.raises(ValueError, match="needs a key"):
        Signatures(None, PLACE, unsecured=False)


async def test_the_key_comes_from_whichever_address_has_it(session: aiohttp.ClientSession) -> None:
    """The first one may be dead, or have none."""
    async with VastPlatform() as without, VastPlatform() as platform:
        without.always = {"/pubkey/": 404}
        keys = PublicKeys([f"http://127.0.0.1:{free_port()}", without.url, platform.url], session)
        await keys.fetch()
        check = Signatures(keys, PLACE, unsecured=False).check
        assert await check(parse_auth(platform.signer.auth_data(URL))) is SignedForm.URL_ONLY


async def test_the_key_is_asked_for_until_it_comes(platform: VastPlatform, session: aiohttp.ClientSession) -> None:
    """A platform that is slow to start costs a worker some time, not its life."""
    platform.faults = {"/pubkey/": deque([503, "cut"])}
    keys = PublicKeys([platform.url], session)
    await keys.fetch()
    assert keys.is_there
    assert [arrival.answered for arrival in platform.arrived] == [503, 0, 200]


async def test_a_new_key_of_vasts_is_found(platform: VastPlatform, signatures: Signatures) -> None:
    """The first request that it signs asks for it, and passes."""
    platform.signer = Signer()
    assert await signatures.check(parse_auth(platform.signer.auth_data(URL))) is SignedForm.URL_ONLY


async def test_bad_signatures_do_not_ask_for_keys_without_end(platform: VastPlatform, signatures: Signatures) -> None:
    """Once a minute is enough."""
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await signatures.check(parse_auth(Signer().auth_data(URL)))
    assert len(platform.taken("/pubkey/")) == 2


@pytest.mark.parametrize("answer", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
async def test_what_is_no_key_is_no_answer(session: aiohttp.ClientSession, answer: str) -> None:
    """The next address is asked."""

    class Odd(Signer):
        public_pem = answer

    async with VastPlatform(signer=Odd()) as odd, VastPlatform() as platform:
        keys = PublicKeys([odd.url, platform.url], session)
        await keys.fetch()
        assert len(platform.taken("/pubkey/")) == 1


def test_all_that_auth_data_lacks_is_told_at_once() -> None:
    """Each field by its path."""
    with pytest.raises(InvalidRequest) as caught:
        parse_auth({"cost": 100, "reqnum": "1", "url": 5})
    assert [problem.path for problem in caught.value.problems] == [
        "auth_data.endpoint",
        "auth_data.request_idx",
        "auth_data.signature",
        "auth_data.reqnum",
        "auth_data.url",
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_no_auth_data_breaks_the_worker(value: object) -> None:
    """Whatever comes is an error that can be answered."""
    with pytest.raises(InvalidRequest):
        parse_auth(value)


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(json.loads("[" * 900 + "]" * 900), id="nested"),
        pytest.param(["x" * 10] * 10_000, id="large"),
    ],
)
def test_what_no_router_sends_is_not_worked_on(cost: object) -> None:
    """Nobody is known yet who sends it: it costs next to nothing, and breaks nothing."""
    with pytest.raises(InvalidRequest, match="is larger than 16384 bytes, or nested too deeply"):
        parse_auth({**Signer().auth_data(URL), "cost": cost})


async def test_auth_data_of_the_deepest_is_checked(platform: VastPlatform, signatures: Signatures) -> None:
    """What passes as small is signed or not, and no fault of ours."""
    cost = json.loads("[" * 250 + "]" * 250)
    assert await signatures.check(parse_auth(platform.signer.auth_data(URL, cost=cost))) is SignedForm.URL_ONLY
    with pytest.raises(Unauthorized):
        await signatures.check(parse_auth(Signer().auth_data(URL, cost=cost)))


async def test_the_key_may_come_in_pieces(session: aiohttp.ClientSession) -> None:
    """A network cuts where it likes."""
    signer = Signer()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        text = signer.public_pem.encode()
        await response.write(text[:50])
        for _ in range(100):  # who asks lives on the same loop, and has read the first piece by then
            await asyncio.sleep(0)
        await response.write(text[50:])
        return response

    app = web.Application()
    app.router.add_get("/pubkey/", answer)
    async with test_utils.TestServer(app) as server:
        keys = PublicKeys([str(server.make_url("")).rstrip("/")], session)
        assert await keys.renew()
