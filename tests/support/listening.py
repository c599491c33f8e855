"""A reporter of provisioning that keeps what it hears."""

from comfyworker.provision.reporting import Item, ItemResult, SilentReporter


class Listener(SilentReporter):
    """Keeps what it hears."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.notes: list[str] = []
        self.steps: list[tuple[str, str]] = []
        self.results: list[ItemResult] = []

    def noted(self, text: str) -> None:
        """Keep a sentence."""
        self.notes.append(text)

    def stepped(self, item: Item, text: str) -> None:
        """Keep a step."""
        self.steps.append((item.key, text))
