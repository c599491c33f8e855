"""Custom nodes: resolved, placed whole, given the packages they need, and seen to load in ComfyUI."""

from comfyworker.provision.nodes.packs import PACKAGES_ITEM, NodePacks
from comfyworker.provision.nodes.records import ImportOutcome, LockedNode, PackagesOutcome, ResolvedNode

__all__ = ["PACKAGES_ITEM", "ImportOutcome", "LockedNode", "NodePacks", "PackagesOutcome", "ResolvedNode"]
