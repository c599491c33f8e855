"""Configs applied in folders of a test's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.apply import Applied, Provisioner
from comfyworker.provision.config.finding import ConfigOrigin, FoundConfig, read_config
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.place import STATE_NAME, ProvisionPlace
from comfyworker.provision.reporting import Item, ItemResult, ItemStatus
from comfyworker.settings import ProvisionSettings, StoreSettings
from support.listening import Listener

Fields = Mapping[str, object]


class ProvisionListener(Listener):
    """Keeps all that it hears."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.items: list[Item] = []
        self.begun_items: list[Item] = []
        self.bytes: list[tuple[str, int, int | None]] = []

    def planned(self, items: Sequence[Item]) -> None:
        """Keep what will be done."""
        self.items += items

    def begun(self, item: Item) -> None:
        """Keep what is begun."""
        self.begun_items.append(item)

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Keep how much is there."""
        self.bytes.append((item.key, done_bytes, total_bytes))

    def ended(self, result: ItemResult) -> None:
        """Keep what came of an item."""
        self.results.append(result)


class Ground:
    """A volume with a config.yml on it, and perhaps a ComfyUI."""

    def __init__(self, root: Path, installation: Installation | None = None) -> None:
        """Use the folder `root` as the volume."""
        self.root = root
        self.models = root / "models"
        self.own_models: Path | None = None
        self.comfyui_repository = "file:///no/such/repository"
        self.listener = ProvisionListener()
        self.settings = ProvisionSettings(attempts=2)
        self.store = StoreSettings()
        self.installation = installation
        root.mkdir(parents=True, exist_ok=True)

    @property
    def place(self) -> ProvisionPlace:
        """Where things go."""
        return ProvisionPlace(
            models=self.models, own_models=self.own_models, models_state=self.root / STATE_NAME,
            installation=self.installation, comfyui_repository=self.comfyui_repository, volume=self.root,
        )  # fmt: skip

    @property
    def config_path(self) -> Path:
        """The config.yml."""
        return self.root / "config.yml"

    def write(
        self,
        models: Sequence[Fields] = (),
        nodes: Sequence[Fields] = (),
        pip: Sequence[str] = (),
        **more: str,
    ) -> FoundConfig:
        """Write a config.yml and return it as it was read."""
        document = {"models": [dict(one) for one in models], "nodes": [dict(one) for one in nodes], "pip": list(pip)}
        self.config_path.write_text(yaml.safe_dump({**document, **more}), encoding="utf-8")
        return read_config(self.config_path, ConfigOrigin.VOLUME)

    @property
    def found(self) -> FoundConfig:
        """The config.yml as it is."""
        return read_config(self.config_path, ConfigOrigin.VOLUME)

    def provisioner(self, *, force: bool = False, locked: bool = False) -> Provisioner:
        """Return what applies the config.yml."""
        return Provisioner(
            self.found, self.place, self.settings, self.store, reporter=self.listener,
            options=ApplyOptions(force=force, locked=locked),
        )  # fmt: skip

    async def apply(self, *, force: bool = False, locked: bool = False) -> Applied:
        """Apply the config.yml."""
        return await self.provisioner(force=force, locked=locked).apply()

    def files(self) -> dict[str, bytes]:
        """Return the content of each model that is there, by its place; what downloads have left is not hidden."""
        found = (path for path in sorted(self.models.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.models)): path.read_bytes() for path in found}


def base_folders(base: Path) -> Path:
    """Make a base directory for ComfyUI, empty but for what its start needs; return it."""
    for name in ("custom_nodes", "models", "user", "input", "output"):
        (base / name).mkdir(parents=True)
    return base


def statuses(applied: Applied) -> dict[str, ItemStatus]:
    """Return what came of each item, by its key."""
    return {result.item.key: result.status for result in applied.results}
