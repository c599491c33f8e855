"""Which host fits where the worker is."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from comfyworker.errors import InvalidSettings
from comfyworker.hosts.starting import HostChoice, HostKind, choose_host, local_http
from comfyworker.settings import load_settings

RUNPOD_POD = {"RUNPOD_POD_ID": "abc123"}
RUNPOD_SERVERLESS = {
    **RUNPOD_POD,
    "RUNPOD_ENDPOINT_ID": "xyz",
    "RUNPOD_WEBHOOK_GET_JOB": "https://api.runpod.ai/v2/xyz/job-take/$RUNPOD_POD_ID",
}
VAST_INSTANCE = {"VAST_CONTAINERLABEL": "C.4711", "CONTAINER_ID": "4711", "PUBLIC_IPADDR": "203.0.113.7"}
VAST_SERVERLESS = {**VAST_INSTANCE, "REPORT_ADDR": "https://run.vast.ai", "MASTER_TOKEN": "secret-token"}


def choose(**environ: str) -> HostChoice:
    """Return the host that a container with these variables runs."""
    return choose_host(load_settings(environ))


@pytest.mark.parametrize(
    ("environ", "kind", "chosen_by"),
    [
        pytest.param({}, "http", "no platform's variables", id="anywhere"),
        pytest.param(RUNPOD_SERVERLESS, "runpod", "RUNPOD_WEBHOOK_GET_JOB", id="runpod serverless"),
        pytest.param(
            RUNPOD_POD,
            "http",
            "RUNPOD_POD_ID without RUNPOD_WEBHOOK_GET_JOB: a pod, no serverless worker",
            id="runpod pod",
        ),
        pytest.param(
            {**RUNPOD_POD, "RUNPOD_ENDPOINT_ID": "xyz"},
            "http",
            "RUNPOD_ENDPOINT_ID without RUNPOD_WEBHOOK_GET_JOB: no queue to take jobs from",
            id="runpod load balancing",
        ),
        pytest.param({"RUNPOD_ENDPOINT_ID": "xyz"}, "http", "no platform's variables", id="a client of runpod"),
        pytest.param(VAST_SERVERLESS, "vast", "REPORT_ADDR, MASTER_TOKEN", id="vast serverless"),
        pytest.param(
            VAST_INSTANCE,
            "http",
            "VAST_CONTAINERLABEL without REPORT_ADDR and MASTER_TOKEN: an instance, no serverless worker",
            id="vast instance",
        ),
        pytest.param({"SERVE_API_LOCALLY": "true"}, "http", "SERVE_API_LOCALLY", id="local"),
        pytest.param({"WORKER_HOST": "Vast"}, "vast", "WORKER_HOST", id="asked for"),
        pytest.param({**RUNPOD_POD, "WORKER_HOST": "runpod"}, "runpod", "WORKER_HOST", id="asked for in a pod"),
        pytest.param({"MODE_TO_RUN": "serverless"}, "runpod", "MODE_TO_RUN", id="serverless mode"),
        pytest.param({**RUNPOD_POD, "MODE_TO_RUN": "pod"}, "http", "MODE_TO_RUN", id="pod mode"),
        pytest.param({"WORKER_HOST": "auto"}, "http", "no platform's variables", id="found out"),
    ],
)
def test_the_host_fits_the_place(environ: dict[str, str], kind: str, chosen_by: str) -> None:
    """Only variables that nothing but a serverless worker has make one; the log can say which ones decided."""
    assert choose(**environ) == HostChoice(kind=HostKind(kind), chosen_by=chosen_by)


def test_both_platforms_at_once_are_an_error() -> None:
    """Guessing wrong would leave a worker that nobody sends jobs to; the token is not repeated."""
    with pytest.raises(InvalidSettings, match="RUNPOD_WEBHOOK_GET_JOB says") as caught:
        choose(**RUNPOD_SERVERLESS, **VAST_SERVERLESS)
    assert [problem.path for problem in caught.value.problems] == ["WORKER_HOST"]
    assert "WORKER_HOST" in (caught.value.hint or "")
    assert "secret-token" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("environ", "doubts"),
    [
        pytest.param(
            {**RUNPOD_SERVERLESS, **VAST_SERVERLESS, "WORKER_HOST": "http"},
            (
                "RUNPOD_WEBHOOK_GET_JOB is set: RunPod waits for this worker to take jobs",
                "REPORT_ADDR and MASTER_TOKEN are set: Vast.ai waits for this worker to report",
            ),
            id="neither of both",
        ),
        pytest.param(
            {**RUNPOD_SERVERLESS, **VAST_SERVERLESS, "WORKER_HOST": "vast"},
            ("RUNPOD_WEBHOOK_GET_JOB is set: RunPod waits for this worker to take jobs",),
            id="one of both",
        ),
        pytest.param({**RUNPOD_SERVERLESS, "WORKER_HOST": "runpod"}, (), id="as it is"),
        pytest.param(
            {**RUNPOD_SERVERLESS, "SERVE_API_LOCALLY": "true"},
            ("SERVE_API_LOCALLY is for one's own machine: nothing is served here",),
            id="left over from one's own machine",
        ),
        pytest.param(
            {"WORKER_HOST": "vast", "MODE_TO_RUN": "serverless"}, ("MODE_TO_RUN is serverless",), id="two wishes"
        ),
        pytest.param(
            {"REPORT_ADDR": "https://run.vast.ai"},
            ("REPORT_ADDR is set, but MASTER_TOKEN is not: a serverless worker of Vast.ai has both",),
            id="half of vast",
        ),
        pytest.param(
            {"MASTER_TOKEN": "secret-token"},
            ("MASTER_TOKEN is set, but REPORT_ADDR is not: a serverless worker of Vast.ai has both",),
            id="the other half",
        ),
    ],
)
def test_what_speaks_against_it_is_told(environ: dict[str, str], doubts: tuple[str, ...]) -> None:
    """A variable that is left over somewhere shows in the log."""
    assert choose(**environ).doubts == doubts


def test_the_choice_is_one_line_and_each_doubt_another() -> None:
    """Whoever wonders why it serves HTTP finds it in the log."""
    choice = choose(REPORT_ADDR="https://run.vast.ai")
    with capture_logs() as logs:
        choice.log()
    assert [(entry["event"], entry["log_level"], entry["host"]) for entry in logs] == [
        ("start.host_chosen", "info", "http"),
        ("start.host_doubtful", "warning", "http"),
    ]
    assert logs[0]["chosen_by"] == "no platform's variables"


def container(root: Path) -> Path:
    """Make a folder look like the root of a container."""
    (root / ".dockerenv").touch()
    return root


def served(root: Path, **environ: str) -> tuple[str, int, bool]:
    """Return the address and the port that are served with these variables, and whether no keys are needed there."""
    http = local_http(load_settings(environ), root=root).http
    return http.host, http.port, http.allow_anybody


def test_on_ones_own_machine_a_container_is_open(tmp_path: Path) -> None:
    """A mapped port reaches no 127.0.0.1 inside; that there are no keys is a warning."""
    with capture_logs() as logs:
        assert served(container(tmp_path), SERVE_API_LOCALLY="true") == ("0.0.0.0", 8000, True)
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("start.serves_without_keys", "warning")
    assert entry["map_port"] == "127.0.0.1:8000:8000"


def test_podmans_containers_are_containers(tmp_path: Path) -> None:
    """They have a mark of their own."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").touch()
    assert served(tmp_path, SERVE_API_LOCALLY="true", SERVE_PORT="9000") == ("0.0.0.0", 9000, True)


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nobody asked"),
        pytest.param({"SERVE_API_LOCALLY": "false"}, id="nobody wants it"),
        pytest.param({"SERVE_API_LOCALLY": "true", **RUNPOD_POD}, id="pod"),
        pytest.param({"SERVE_API_LOCALLY": "true", **VAST_INSTANCE}, id="vast instance"),
        pytest.param({"SERVE_API_LOCALLY": "true", "SERVE_HOST": "127.0.0.1"}, id="address given"),
    ],
)
def test_nothing_is_opened_to_strangers(tmp_path: Path, environ: dict[str, str]) -> None:
    """Ports of rented machines are mapped to the whole world."""
    assert served(container(tmp_path), **environ) == ("127.0.0.1", 8000, False)


def test_outside_of_a_container_this_machine_reaches_it_as_it_is(tmp_path: Path) -> None:
    """There is nothing to map."""
    assert served(tmp_path, SERVE_API_LOCALLY="true") == ("127.0.0.1", 8000, False)


def test_keys_are_asked_for_where_there_are_any(tmp_path: Path) -> None:
    """Then there is nothing to warn of."""
    with capture_logs() as logs:
        settings = local_http(
            load_settings({"SERVE_API_LOCALLY": "true", "API_KEYS": "key-12345"}), root=container(tmp_path)
        )
    assert (settings.http.host, len(settings.http.api_keys), logs) == ("0.0.0.0", 1, [])
