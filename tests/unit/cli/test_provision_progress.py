"""Provisioning as it is told where there is no terminal, and where there is one."""

import io

from rich.console import Console

from comfyworker.cli.provision_progress import ProvisionView
from comfyworker.errors import DownloadFailed
from comfyworker.jobs import JobError
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus

MODEL = Item(key="vae/a.pt", kind=ItemKind.MODEL, title="vae/a.pt", size_bytes=2_000_000_000)
OTHER = Item(key="vae/b.pt", kind=ItemKind.MODEL, title="vae/b.pt", size_bytes=1_000)
PACK = Item(key="Pack", kind=ItemKind.NODE, title="Pack 1.0 (abc1234)")


def tell(*, is_terminal: bool) -> str:
    """Return what is written for two models and a custom node."""
    written = io.StringIO()
    with ProvisionView(Console(file=written, force_terminal=is_terminal, width=100)) as view:
        view.planned([MODEL, OTHER, PACK])
        view.begun(MODEL)
        view.fetched(MODEL, 1_000_000_000, 2_000_000_000)
        view.stepped(PACK, "git fetch")
        view.noted("A sentence.")
        view.ended(ItemResult(item=MODEL, status=ItemStatus.DONE, seconds=20, fetched_bytes=2_000_000_000))
        view.ended(ItemResult(item=OTHER, status=ItemStatus.PRESENT))
        error = JobError.of(DownloadFailed("it is gone"))
        view.ended(ItemResult(item=PACK, status=ItemStatus.FAILED, error=error))
    return written.getvalue()


def test_lines_without_a_terminal() -> None:
    """What was done and what failed has a line each; what was there already has none."""
    assert tell(is_terminal=False).splitlines() == [
        "A sentence.",
        "✓ vae/a.pt  2.0 GB in 20 s, 0.1 GB/s",
        "✗ Pack 1.0 (abc1234)  it is gone",
    ]


def test_bars_on_a_terminal() -> None:
    """There are bars for what is under way and for all of it; the lines are there all the same."""
    text = tell(is_terminal=True)
    assert "all models" in text
    assert "it is gone" in text
