"""From a workflow to the lines of a config.yml that make it run."""

from comfyworker.provision.proposal.gathering import Source, merge_proposals, propose_config
from comfyworker.provision.proposal.missing import Missing, explain_missing, find_missing
from comfyworker.provision.proposal.records import Proposal, ProposedModel, ProposedPack
from comfyworker.provision.proposal.rendering import render_proposal

__all__ = [
    "Missing",
    "Proposal",
    "ProposedModel",
    "ProposedPack",
    "Source",
    "explain_missing",
    "find_missing",
    "merge_proposals",
    "propose_config",
    "render_proposal",
]
