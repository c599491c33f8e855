"""The node graph: reading, checking and changing a workflow, as pure functions without I/O."""

from comfyworker.workflow.graph import ancestors, class_of, is_link, links, read_workflow, title_of
from comfyworker.workflow.models import model_files
from comfyworker.workflow.node_classes import InputSpec, NodeClass, NodeClasses, ObjectInfo
from comfyworker.workflow.overrides import Override, apply_overrides, parse_assignment
from comfyworker.workflow.preflight import check_workflow, raise_problems, sound_outputs
from comfyworker.workflow.rejection import problems_from_comfyui

__all__ = [
    "InputSpec",
    "NodeClass",
    "NodeClasses",
    "ObjectInfo",
    "Override",
    "ancestors",
    "apply_overrides",
    "check_workflow",
    "class_of",
    "is_link",
    "links",
    "model_files",
    "parse_assignment",
    "problems_from_comfyui",
    "raise_problems",
    "read_workflow",
    "sound_outputs",
    "title_of",
]
