"""How long it takes to see that a config.yml is true already."""

import hashlib
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.report import Row
from comfyworker.comfyui.locate import Installation
from comfyworker.provision.config.finding import ConfigOrigin, read_config
from comfyworker.provision.download import Receipt
from comfyworker.provision.place import STATE_NAME, ProvisionPlace
from comfyworker.provision.records import MODELS_NAME, ModelRecord, ModelsState, key_of, write_note
from comfyworker.provision.state import is_unchanged

ROUNDS = 50
MODELS = 100
BUDGET_MS = 50.0


async def measure_unchanged_config(ground: Ground) -> list[Row]:
    """Look whether a config.yml of 100 models is true on a warm disk; reading the file itself is counted."""
    rounds = ground.rounds_or(ROUNDS)
    ground.say(f"unchanged config of {MODELS} models (rounds: {rounds})")
    with tempfile.TemporaryDirectory(prefix="comfyworker-config-") as folder:
        place = _lay_out(Path(folder), ground)
        spent_ms = [_look_ms(Path(folder) / "config.yml", place) for _ in range(rounds)]
    return [
        Row(
            name="config.unchanged",
            what=f"unchanged config.yml of {MODELS} models, read and checked, p50",
            unit="ms",
            floor=None,
            ours=statistics.median(spent_ms),
            budget=BUDGET_MS,
            rule=f"{BUDGET_MS:g} ms",
            rounds=rounds,
        )
    ]


def _lay_out(root: Path, ground: Ground) -> ProvisionPlace:
    """Make 100 small models, the config that asks for them, and the notes of an apply."""
    install = ground.comfyui.install
    models, state = root / "models", root / STATE_NAME
    lines = ["models:"]
    for number in range(MODELS):
        path = models / ("checkpoints", "loras/wan", "vae")[number % 3] / f"model-{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
        lines += [f"  - url: https://example.org/{path.name}", f"    destination: {path.parent.relative_to(models)}"]
    (root / "config.yml").write_text("\n".join(lines), encoding="utf-8")
    records = {}
    for entry in read_config(root / "config.yml", ConfigOrigin.VOLUME).config.models:
        path = models / entry.destination / entry.url.rpartition("/")[2]
        receipt = Receipt(
            url=entry.url,
            filename=path.name,
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            mtime_ns=path.stat().st_mtime_ns,
        )
        where = str(path.relative_to(models))
        records[where] = ModelRecord(key=key_of(entry), place=where, receipt=receipt)
    write_note(state / MODELS_NAME, ModelsState(models=records))
    installation = Installation(path=install.path, python=install.python, version="0.3.75", base_dir=root)
    return ProvisionPlace(models=models, models_state=state, installation=installation, volume=root)


def _look_ms(config: Path, place: ProvisionPlace) -> float:
    begun_at = time.perf_counter()
    is_true = is_unchanged(read_config(config, ConfigOrigin.VOLUME), place)
    duration_ms = 1000 * (time.perf_counter() - begun_at)
    if not is_true:
        message = "the config is not seen to be true"
        raise RuntimeError(message)
    return duration_ms
