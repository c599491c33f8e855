"""What Vast is told to be wrong: the first of all troubles, until the last is over."""

from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.watching import Troubles


def test_one_trouble_does_not_hide_that_another_lasts() -> None:
    """The first message stands until that trouble is over, then the next one does, then none."""
    ledger = Ledger()
    troubles = Troubles(ledger)
    troubles.note("benchmark", "it failed")
    troubles.note("comfyui", "it has died")
    told = [ledger.error_message]
    for about in ("benchmark", "comfyui", "comfyui"):
        troubles.clear(about)
        told.append(ledger.error_message)
    assert told == ["it failed", "it has died", "", ""]
