"""A plan of provisioning as a table for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from comfyworker.comfyui.finding import format_bytes
from comfyworker.errors import DownloadFailed, InsufficientStorage
from comfyworker.jobs import JobError
from comfyworker.provision.config.finding import FoundConfig
from comfyworker.provision.plan import Plan, PlannedModel, PlannedNode, Verdict, check_room

_WORDS = {
    Verdict.PRESENT: ("there", "green"),
    Verdict.ADOPT: ("look at", "cyan"),
    Verdict.LINK: ("link", "cyan"),
    Verdict.FETCH: ("fetch", "yellow"),
    Verdict.UPDATE: ("update", "yellow"),
    Verdict.DISABLE: ("disable", "yellow"),
    Verdict.UNKNOWN: ("cannot", "red"),
}
_WIDTH = 120  # where no terminal says


def print_plan(plan: Plan, found: FoundConfig) -> None:
    """Print what is to be done, what it needs of the disk, and what speaks against it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    name = found.path.name if found.path else "CONFIG_YML"
    if plan.is_empty:
        console.print(Text(f"{name}: all is there already"))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    if plan.comfyui_update is not None:
        there, wanted = plan.comfyui_update
        table.add_row(Text("update", style="yellow"), f"ComfyUI {wanted}", "", f"{there} is there")
    for model in plan.models:
        size = format_bytes(model.size_bytes) if model.size_bytes is not None else "?"
        table.add_row(_word(model), _title(model.place, optional=model.entry.optional), size, _why(model))
    for node in plan.nodes:
        optional = node.entry is not None and node.entry.optional
        table.add_row(_word(node), _title(node.item().title, optional=optional), "", _why(node))
    if plan.installs_packages:
        table.add_row(Text("install", style="yellow"), "packages of the custom nodes", "", "")
    console.print(table)
    if plan.wanted_bytes and plan.free_bytes is not None:
        wanted, free = format_bytes(plan.wanted_bytes), format_bytes(plan.free_bytes)
        console.print(f"The models take {wanted} more of the disk; {free} are free.", markup=False)
    for problem in plan_problems(plan):
        console.print(Text.assemble(("✗ ", "red"), problem.message), soft_wrap=True)
        if problem.hint:
            console.print(Text(f"  → {problem.hint}", style="red"), soft_wrap=True)


def plan_problems(plan: Plan) -> list[JobError]:
    """Return what speaks against a plan: what is required and cannot be had, and a disk without room for it."""
    items: tuple[PlannedModel | PlannedNode, ...] = (*plan.models, *plan.nodes)
    silent = [host for model in plan.models if (host := model.silent_host) is not None and not model.entry.optional]
    problems = [_silence(silent)] if silent else []
    problems += [
        item.error
        for item in items
        if item.error is not None
        and not (item.entry and item.entry.optional)
        and not (isinstance(item, PlannedModel) and item.silent_host)
    ]
    if plan.comfyui_error is not None:
        problems.append(plan.comfyui_error)
    try:
        if plan.free_bytes is not None:
            check_room(plan.models, plan.free_bytes)
    except InsufficientStorage as error:
        problems.append(JobError.of(error))
    return problems


def _silence(hosts: Sequence[str]) -> JobError:
    """Return one problem for all models whose hosts, one for each model, did not answer."""
    names: list[JsonValue] = [*sorted(set(hosts))]
    models = f"{len(hosts)} models" if len(hosts) > 1 else "a model"
    return JobError(
        code=DownloadFailed.code,
        message=f"{', '.join(map(str, names))} did not answer: what {models} will take of the disk is unknown",
        hint="Look at the network. With `sha256` in config.yml, a model that is there is known without its host.",
        details={"reason": "unreachable", "hosts": names},
        retryable=True,
    )


def plan_as_json(plan: Plan) -> dict[str, object]:
    """Return a plan for programs."""
    return {
        "is_empty": plan.is_empty,
        "wanted_bytes": plan.wanted_bytes,
        "free_bytes": plan.free_bytes,
        "installs_packages": plan.installs_packages,
        "comfyui": {"from": plan.comfyui_update[0], "to": plan.comfyui_update[1]} if plan.comfyui_update else None,
        "models": [
            {
                "place": model.place,
                "verdict": model.verdict,
                "reason": model.reason,
                "size_bytes": model.size_bytes,
                "kept_bytes": model.kept_bytes,
                "sha256": model.sha256,
                "optional": model.entry.optional,
                "error": model.error.model_dump(mode="json", exclude_none=True) if model.error else None,
            }
            for model in plan.models
        ],
        "nodes": [
            {
                "folder": node.folder,
                "verdict": node.verdict,
                "reason": node.reason,
                "version": node.resolved.release if node.resolved else None,
                "commit": node.resolved.commit if node.resolved else None,
                "optional": node.entry is not None and node.entry.optional,
                "error": node.error.model_dump(mode="json", exclude_none=True) if node.error else None,
            }
            for node in plan.nodes
        ],
        "problems": [problem.model_dump(mode="json", exclude_none=True) for problem in plan_problems(plan)],
    }


def _word(item: PlannedModel | PlannedNode) -> Text:
    word, style = _WORDS[item.verdict]
    return Text(word, style=style)


def _title(title: str, *, optional: bool) -> Text:
    return Text.assemble(title, (" (optional)" if optional else "", "dim"))


def _why(item: PlannedModel | PlannedNode) -> Text:
    kept, silent_host = 0, None
    if isinstance(item, PlannedModel):
        kept, silent_host = item.kept_bytes, item.silent_host
    parts = [
        item.reason,
        f"{format_bytes(kept)} of it is there" if kept else "",
        f"{silent_host} did not answer" if silent_host else item.error.message if item.error else "",
    ]
    return Text("; ".join(part for part in parts if part))
