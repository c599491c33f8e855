"""Fetching input files by URL from a real server: what comes, what is refused, and what is never shown."""

import asyncio
import gc
import socket
import traceback
from collections.abc import AsyncIterator, Iterator

import pytest
import stamina
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyworker.inputs.fetch import fetch_urls
from comfyworker.inputs.fetched import FetchFault
from comfyworker.outbound import addresses, sessions
from comfyworker.settings import InputSettings
from support.file_server import FileServer

STRICT = InputSettings()
OPEN = InputSettings(allow_private_urls=True, max_file_bytes=1_000_000)
SECRET = "X-Amz-Signature=5ecre7"


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Try again at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Return a running server."""
    async with FileServer() as server:
        server.files["/cat.png"] = (b"a cat", "image/png")
        yield server


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the guard take one address of this machine for a public one, since no test can reach those; return it."""
    real = addresses.refusal

    def refusal(address: str, *, allow_private: bool) -> str | None:
        return None if address == "127.0.0.2" else real(address, allow_private=allow_private)

    monkeypatch.setattr(sessions, "refusal", refusal)
    return "127.0.0.2"


class Answers(AbstractResolver):
    """A name server that answers with one list of addresses after the other, and then with the last."""

    def __init__(self, *answers: list[str]) -> None:
        """Keep the answers."""
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the next answer, as aiohttp wants it."""
        del family
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def fetched(url: str, settings: InputSettings = OPEN, resolver: AbstractResolver | None = None) -> bytes:
    """Return what lies at one URL."""
    result = await fetch_urls([url], settings, resolver=resolver)
    assert result.faults == {}
    return result.data[url]


async def fault(url: str, settings: InputSettings = OPEN, resolver: AbstractResolver | None = None) -> FetchFault:
    """Return why one URL was not fetched."""
    result = await fetch_urls([url], settings, resolver=resolver)
    assert result.data == {}
    return result.faults[url]


async def test_a_file_is_fetched(server: FileServer) -> None:
    """What lies there comes back, a query and a redirect within the limit included."""
    to = server.url("/redirect?to=/cat.png%3Fx")
    assert await fetched(to) == b"a cat"


async def test_equal_urls_are_asked_once(server: FileServer) -> None:
    """A URL that stands in several places is fetched once."""
    url = server.url("/cat.png")
    assert (await fetch_urls([url, url], OPEN)).data == {url: b"a cat"}
    assert server.asked["/cat.png"] == 1


async def test_no_urls_ask_nobody() -> None:
    """Without URLs there is nothing to do."""
    assert await fetch_urls([], OPEN) == ({}, {})


async def test_files_are_fetched_at_the_same_time(server: FileServer) -> None:
    """Two requests that wait for each other both end."""
    server.together = asyncio.Barrier(2)
    urls = [server.url("/together?1"), server.url("/together?2")]
    assert (await fetch_urls(urls, OPEN)).data == dict.fromkeys(urls, b"both")


async def test_no_more_than_so_many_at_a_time(server: FileServer) -> None:
    """With one at a time, two that wait for each other never meet."""
    server.together = asyncio.Barrier(2)
    limits = OPEN.model_copy(update={"url_parallel": 1, "url_timeout_s": 0.2})
    urls = [server.url("/together?1"), server.url("/together?2")]
    faults = (await fetch_urls(urls, limits)).faults
    assert [faults[url].reason for url in urls] == ["was not fetched within 0.2 s"] * 2


async def test_requests_carry_nothing_of_ours(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a cookie nor a password nor a referrer goes out, and no proxy of the environment is asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", "/dev/null")
    await fetched(server.url("/redirect?to=/cat.png"))
    assert [sorted(headers) for headers in server.headers] == [
        ["Accept", "Accept-Encoding", "Connection", "Host", "User-Agent"]
    ] * 2
    assert server.headers[1]["Accept-Encoding"] == "identity"


async def test_a_signed_query_is_sent_as_it_is_written(server: FileServer) -> None:
    """Presigned URLs are signed as they are written, so no escape is put in or taken out."""
    seen = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        await fetched(f"http://127.0.0.1:{port}/a%2Fb+c%7E?s=a%2Bb/c=%3D&t='x'#part")
    assert await seen == b"GET /a%2Fb+c%7E?s=a%2Bb/c=%3D&t='x' HTTP/1.1"
    assert server.asked == {}


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.8.8.8", "a loopback address"),
        ("localhost", "a loopback address"),
        ("LOCALHOST", "a loopback address"),
        ("[::1]", "a loopback address"),
        ("0x7f.1", "a loopback address"),
        ("0x7f000001", "a loopback address"),
        ("0.0.0.0", "the unspecified address"),
        ("[::]", "the unspecified address"),
        ("10.1.2.3", "a private address"),
        ("172.31.0.1", "a private address"),
        ("192.168.1.1", "a private address"),
        ("[fd12::1]", "a private address"),
        ("100.64.0.1", "an address of a carrier's private network"),
        ("169.254.1.1", "a link-local address"),
        ("[fe80::1]", "a link-local address"),
        ("[fe80::1%25eth0]", "a link-local address"),
        ("169.254.169.254", "an address of a cloud's metadata"),
        ("[fd00:ec2::254]", "an address of a cloud's metadata"),
        ("168.63.129.16", "an address of a cloud's metadata"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "a reserved address"),
        ("[::ffff:127.0.0.1]", "an IPv6 address that stands for an IPv4 address"),
        ("[::ffff:7f00:1]", "an IPv6 address that stands for an IPv4 address"),
        ("[64:ff9b::7f00:1]", "an IPv6 address that stands for an IPv4 address"),
        ("[2002:7f00:1::]", "an IPv6 address that stands for an IPv4 address"),
    ],
)
async def test_neighbours_are_not_asked(server: FileServer, host: str, kind: str) -> None:
    """However an address of this machine, its network or its cloud is written, no connection is made."""
    found = await fault(server.url(f"/cat.png?{SECRET}", host), STRICT)
    assert (found.code, found.reason) == ("url_refused", f"leads to {kind}, which is not fetched from")
    assert server.asked == {}


@pytest.mark.parametrize(
    "host", ["2130706433", "127.1", "localhost.", "0177.0.0.1", "127.0.1", "127%2e0.0.1", "①②⑦.⓪.⓪.①"]
)
async def test_odd_spellings_lead_nowhere(server: FileServer, host: str) -> None:
    """Spellings of an address that some programs understand are refused, by whatever reads them first."""
    found = await fault(server.url("/cat.png", host), STRICT)
    assert found.code in {"url_refused", "invalid_url", "url_unreachable"}
    assert server.asked == {}


async def test_each_redirect_is_checked(server: FileServer, public_loopback: str) -> None:
    """A public host cannot lead to this machine, nor to a private network or a cloud's metadata."""
    kinds = []
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "10.0.0.1", "169.254.169.254"):
        found = await fault(server.url(f"/redirect?to=http://{host}/cat.png", public_loopback), STRICT)
        kinds.append(found.reason.removeprefix("leads to ").removesuffix(", which is not fetched from"))
    loopback = "a loopback address"
    assert kinds == [loopback, loopback, "a private address", "an address of a cloud's metadata"]
    assert server.asked == {"/redirect": 4}


async def test_each_answer_of_the_name_server_is_checked(server: FileServer, public_loopback: str) -> None:
    """A name that led to a public address, and then to this machine, is asked only at the first (DNS rebinding)."""
    resolver = Answers([public_loopback], ["127.0.0.1"])
    found = await fault(server.url("/status/503", "rebind.example"), STRICT, resolver)
    assert (found.code, server.asked) == ("url_refused", {"/status/503": 1})


async def test_a_redirect_to_the_same_name_is_resolved_anew(server: FileServer, public_loopback: str) -> None:
    """Also where the second answer comes with a redirect to the very same name."""
    to = server.url("/cat.png", "rebind.example")
    resolver = Answers([public_loopback], ["127.0.0.1"])
    found = await fault(server.url(f"/redirect?to={to}", "rebind.example"), STRICT, resolver)
    assert (found.code, server.asked) == ("url_refused", {"/redirect": 1})


@pytest.mark.parametrize("answer", [["127.0.0.1", "::1"], ["10.0.0.1", "192.168.0.1", "fe80::1"]])
async def test_a_name_with_several_private_addresses_is_refused(answer: list[str]) -> None:
    """Every one of its addresses is checked before it is tried."""
    found = await fault("http://many.example/", STRICT, Answers(answer))
    assert found.code == "url_refused"


async def test_private_networks_can_be_opened_but_not_the_cloud(server: FileServer) -> None:
    """ALLOW_PRIVATE_URLS takes this machine, and still neither link-local addresses nor a cloud's metadata."""
    assert await fetched(server.url("/cat.png", "localhost")) == b"a cat"
    for host in ("169.254.169.254", "169.254.1.1", "[fd00:ec2::254]", "100.100.100.200", "0.0.0.0"):
        assert (await fault(f"http://{host}/latest", OPEN)).code == "url_refused"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:secret@a.de/x.png", "has a user name or password in it, which is not taken"),
        ("http://user@a.de/x.png", "has a user name or password in it, which is not taken"),
        ("http://@a.de/x.png", "has a user name or password in it, which is not taken"),
        ("ftp://a.de/x.png", "is not a URL that can be read"),
        ("file:///etc/passwd", "is not a URL that can be read"),
        ("http://", "is not a URL that can be read"),
        ("http:///x.png", "is not a URL that can be read"),
        ("http://a.de:99999/", "is not a URL that can be read"),
        ("http://[::1/", "is not a URL that can be read"),
        ("http://a.de/x y.png", "is not a URL that can be read"),
        ("http://a.de\\@127.0.0.1/", "is not a URL that can be read"),
        ("http://a.de/\r\nX-Header: 1", "is not a URL that can be read"),
        (f"http://a.de/{'x' * 9000}", "is not a URL that can be read"),
    ],
)
async def test_what_is_no_plain_url_is_refused(url: str, reason: str) -> None:
    """Another scheme, a password, and what readers of URLs understand differently."""
    found = await fault(url, OPEN, Answers(["127.0.0.1"]))
    assert (found.code, found.reason) == ("invalid_url", reason)


URL_PARTS = [*r"@:#/\%[]①。é℀=&?", "a.de", "127.0.0.1", "localhost", "[::1]", ":80", "//", "%2e", "%00", "..", "xn--"]
ODD_TEXTS = st.lists(st.sampled_from(URL_PARTS) | st.text(st.characters(), max_size=4), max_size=10).map("".join)


@settings(max_examples=100)
@given(st.sampled_from(["http://", "https://"]), ODD_TEXTS)
async def test_no_text_gets_past_the_guard(scheme: str, text: str) -> None:
    """Whatever stands behind http://, it is refused in our words, where no name leads to a public address."""
    found = await fault(scheme + text, STRICT, Answers(["10.0.0.1"]))
    assert found.code in {"invalid_url", "url_refused"}


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://a.de/x", "http://u:p@127.0.0.1/", "gopher://x", ""])
async def test_redirects_keep_to_the_rules_for_urls(server: FileServer, to: str) -> None:
    """A redirect to another scheme, or with a password, is not followed."""
    found = await fault(server.url(f"/redirect?to={to}"))
    assert (found.code, server.asked) == ("url_redirects", {"/redirect": 1})


async def test_redirects_end(server: FileServer) -> None:
    """More redirects than allowed are an error."""
    found = await fault(server.url("/loop"))
    assert (found.reason, server.asked["/loop"]) == ("was redirected more than 5 times", 6)


async def test_an_endless_body_is_cut_off(server: FileServer) -> None:
    """A body without a length is left as soon as it is too large."""
    found = await fault(server.url("/endless"))
    assert (found.code, found.reason) == (
        "file_too_large",
        "holds more than the 1000000 bytes that one file may have",
    )


async def test_a_body_that_says_it_is_too_large_is_not_read(server: FileServer) -> None:
    """Its announced length is enough."""
    server.files["/big"] = (bytes(1_000_001), "image/png")
    assert (await fault(server.url("/big"))).code == "file_too_large"


async def test_a_body_of_the_largest_size_is_taken(server: FileServer) -> None:
    """The limit itself is within."""
    server.files["/big"] = (bytes(1_000_000), "image/png")
    assert len(await fetched(server.url("/big"))) == 1_000_000


async def test_all_files_together_have_a_limit(server: FileServer) -> None:
    """Many files below the limit for one are too much together."""
    limits = OPEN.model_copy(update={"max_fetched_bytes": 1_500_000, "url_parallel": 1})
    server.files["/big"] = (bytes(900_000), "image/png")
    first, second = server.url("/big?1"), server.url("/big?2")
    result = await fetch_urls([first, second], limits)
    assert (list(result.data), result.faults[second].code) == ([first], "file_too_large")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nshort", "could not be read: the connection failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", "answered with what is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.0\r\n\r\n", "answered with what is not HTTP"),
        (b"", "could not be read: the connection failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n", "answered with what is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "answered with what is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered with an empty file"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx", "answered with status 206"),
    ],
)
async def test_lies_are_found_out(answer: bytes, reason: str) -> None:
    """A body shorter than announced, and answers that are none."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert (await fault(f"http://127.0.0.1:{port}/?{SECRET}")).reason == reason


async def test_a_body_longer_than_announced_ends_where_it_said() -> None:
    """What comes after the announced length is never part of the file; it may also be taken for a broken answer."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        writer.write(bytes(100_000))
        writer.close()

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        result = await fetch_urls([url], OPEN)
    assert {**dict.fromkeys(result.faults, b"abc"), **result.data} == {url: b"abc"}


async def test_compressed_bodies_are_not_taken(server: FileServer) -> None:
    """A small body that would unfold into a large one is never unfolded."""
    found = await fault(server.url("/bomb"))
    assert (found.code, server.asked["/bomb"]) == ("url_compressed", 1)


async def test_a_host_that_falls_silent_is_left(server: FileServer) -> None:
    """The time between two pieces of an answer has a limit."""
    found = await fault(server.url("/slow"), OPEN.model_copy(update={"url_read_timeout_s": 0.1}))
    assert (found.code, found.reason, server.asked["/slow"]) == ("url_timeout", "has a host that stopped sending", 1)


async def test_the_whole_has_a_time_limit(server: FileServer) -> None:
    """So has everything together, for a host that keeps sending a little."""
    found = await fault(server.url("/slow"), OPEN.model_copy(update={"url_timeout_s": 0.1}))
    assert (found.code, found.reason) == ("url_timeout", "was not fetched within 0.1 s")


async def test_a_host_that_fails_is_asked_again(server: FileServer) -> None:
    """After a 500, the file comes."""
    assert (await fetched(server.url("/flaky")), server.asked["/flaky"]) == (b"at last", 2)


@pytest.mark.parametrize(("status", "times"), [(500, 3), (503, 3), (404, 1), (403, 1), (401, 1), (304, 1), (204, 1)])
async def test_only_what_may_pass_is_tried_again(server: FileServer, status: int, times: int) -> None:
    """A failing host is asked a few times; what it says for good is believed at once."""
    found = await fault(server.url(f"/status/{status}"))
    assert (found.code, found.reason) == ("url_status", f"answered with status {status}")
    assert server.asked[f"/status/{status}"] == times


async def test_a_host_that_is_not_there(server: FileServer) -> None:
    """A name that nobody knows, and a port where nobody listens."""
    nobody = FileServer()
    reasons = [(await fault(nobody.url("/x"))).reason, (await fault("http://no-such-host.invalid/x")).reason]
    assert reasons == ["could not be read: the connection failed", "has a host whose name is not found"]
    assert server.asked == {}


async def test_plain_http_behind_https_is_said(server: FileServer) -> None:
    """A host that does not speak TLS is told from one that is down."""
    found = await fault(server.url("/cat.png").replace("http:", "https:"))
    assert found.reason == "has a host to which no safe connection can be made"


async def test_canceling_ends_the_connections(server: FileServer) -> None:
    """A job that is cancelled leaves no download behind."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(fetch_urls([server.url("/slow"), server.url("/endless")], OPEN))
        await server.stalled.wait()
        task.cancel()
    assert task.cancelled()
    gc.collect()  # A connection left open would be warned of here.


async def test_no_query_is_shown_anywhere(server: FileServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong, neither the fault, nor its chain, nor any log event holds the query."""
    urls = [
        server.url(f"{path}?{SECRET}")
        for path in ("/cat.png", "/status/404", "/status/500", "/bomb", "/loop", "/endless", "/slow")
    ]
    urls += [
        f"http://{host}/?{SECRET}" for host in ("127.0.0.1:1", "a.invalid", "169.254.169.254", "2130706433", "u@a")
    ]
    urls += [
        f"http://?{SECRET}",
        f"http://[?{SECRET}",
        f"http://a b?{SECRET}",
        f"https://127.0.0.1:{server.port}/?{SECRET}",
    ]
    urls += [server.url(f"/redirect?to={to}?{SECRET}") for to in ("file:///x", "http://10.0.0.1/", "http://u:p@a/")]
    limits = OPEN.model_copy(update={"url_read_timeout_s": 0.2})
    with structlog.testing.capture_logs() as events:
        result = await fetch_urls(urls, limits)
    shown = [str(events), *("".join(traceback.format_exception(fault)) for fault in result.faults.values())]
    shown += [f"{fault!r} {fault.hint}" for fault in result.faults.values()]
    assert (len(result.data), len(result.faults)) == (1, len(urls) - 1)
    assert [text for text in shown if "5ecre7" in text or "Amz" in text] == []
    assert {event["event"] for event in events} == {"inputs.fetched", "stamina.retry_scheduled"}
    assert "5ecre7" not in "".join(capfd.readouterr())
