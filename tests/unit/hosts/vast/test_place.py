"""A worker knows from Vast's variables who it is and where."""

import pytest

from comfyworker.errors import InvalidSettings
from comfyworker.hosts.vast.place import Place, find_place
from comfyworker.settings import load_settings

VARIABLES = {
    "REPORT_ADDR": "https://run.vast.ai/, https://cloud.vast.ai/api/v0",
    "MASTER_TOKEN": "t0ken-of-the-master",
    "CONTAINER_ID": "4711",
    "PUBLIC_IPADDR": "203.0.113.7",
    "WORKER_PORT": "3001",
    "VAST_TCP_PORT_3001": "41234",
    "VAST_TCP_PORT_3000": "41111",
}


def place(**changes: str) -> Place:
    """Return the place that these variables make."""
    found = find_place(load_settings(VARIABLES | changes).vast)
    assert found is not None
    return found


def test_the_variables_make_the_place() -> None:
    """The public port is that of the port which the worker listens on."""
    here = place()
    assert (here.id, here.url) == (4711, "http://203.0.113.7:41234")
    assert here.report_addresses == ("https://run.vast.ai", "https://cloud.vast.ai/api/v0")
    assert here.token.get_secret_value() == "t0ken-of-the-master"
    assert "t0ken" not in repr(here)


def test_ended_requests_are_not_told_to_an_address_that_takes_none() -> None:
    """Vast hands out one that the SDK passes over, too."""
    assert place().delete_addresses == ("https://run.vast.ai",)


def test_with_a_certificate_the_url_is_https() -> None:
    """USE_SSL decides the scheme."""
    assert place(USE_SSL="true").url == "https://203.0.113.7:41234"


def test_an_ipv6_address_stands_in_brackets() -> None:
    """Else its last group would be read as the port."""
    assert place(PUBLIC_IPADDR="2001:db8::1").url == "http://[2001:db8::1]:41234"


def test_without_worker_port_it_is_3000() -> None:
    """The default counts for the name of the other variable as well."""
    assert place(WORKER_PORT="").url == "http://203.0.113.7:41111"


def test_all_that_is_missing_is_named_at_once() -> None:
    """One start shows what is not set, and what to start elsewhere."""
    with pytest.raises(InvalidSettings) as caught:
        find_place(load_settings({"WORKER_PORT": "3001"}).vast)
    assert [problem.path for problem in caught.value.problems] == [
        "REPORT_ADDR",
        "CONTAINER_ID",
        "PUBLIC_IPADDR",
        "VAST_TCP_PORT_3001",
    ]
    assert "comfyworker serve" in str(caught.value.hint)


def test_a_wrong_public_port_is_told_by_its_name() -> None:
    """Vast sets ports; what is none was set by somebody else."""
    with pytest.raises(InvalidSettings, match=r"VAST_TCP_PORT_<WORKER_PORT>.*it is 'many'"):
        load_settings(VARIABLES | {"VAST_TCP_PORT_3001": "many"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("REPORT_ADDR", "run.vast.ai"), ("CONTAINER_ID", "C.4711"), ("PUBLIC_IPADDR", "http://203.0.113.7")],
)
def test_a_value_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    """The worker would report from nowhere, or to nobody."""
    with pytest.raises(InvalidSettings, match=name):
        load_settings(VARIABLES | {name: value})


def test_a_trial_without_vast_has_no_place() -> None:
    """UNSECURED without REPORT_ADDR: nobody is reported to."""
    assert find_place(load_settings({"UNSECURED": "true"}).vast) is None


def test_unsecured_with_an_address_reports_all_the_same() -> None:
    """Only what is signed is not looked at."""
    assert find_place(load_settings(VARIABLES | {"UNSECURED": "true"}).vast) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://203.0.113.7:41234",
        "http://203.0.113.7:41234/",
        "https://203.0.113.7:41234",  # a router may speak https where a proxy takes it off
        "http://instance.example:41234",  # perhaps this machine's name
        "http://instance.example:9",
    ],
)
def test_a_url_that_may_be_ours_is_not_anothers(url: str) -> None:
    """Only what is certain is refused: else a change of Vast's would stop every worker."""
    assert not place().is_another(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://203.0.113.7:41235",  # another worker on the same machine
        "http://203.0.113.7",
        "http://203.0.113.8:41234",
        "http://[2001:db8::1]:41234",
        "ftp://203.0.113.7:41234",
        "203.0.113.7:41234",
        "http://203.0.113.7:99999",
        "",
    ],
)
def test_a_url_of_another_worker_is_known(url: str) -> None:
    """What was signed for another address or port is not ours, nor what is no URL."""
    assert place().is_another(url)


def test_ways_to_write_an_address_are_one() -> None:
    """IPv6 addresses are compared by value."""
    assert not place(PUBLIC_IPADDR="2001:db8::1").is_another("http://[2001:DB8:0::1]:41234")
