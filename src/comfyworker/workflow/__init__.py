"""The node graph: reading, checking and changing a workflow, as pure functions without I/O."""

from comfyworker.jobs import Override
from comfyworker.workflow.files import FileInput, UrlInput, find_file_inputs, find_url_inputs, rename_files
from comfyworker.workflow.fresh import mark_outputs
from comfyworker.workflow.graph import ancestors, class_of, is_link, links, read_workflow, title_of
from comfyworker.workflow.models import model_files
from comfyworker.workflow.node_classes import InputSpec, NodeClass, NodeClasses, ObjectInfo
from comfyworker.workflow.overrides import apply_overrides, parse_assignment
from comfyworker.workflow.preflight import check_workflow, raise_problems, sound_outputs
from comfyworker.workflow.rejection import problems_from_comfyui
from comfyworker.workflow.urls import file_name, is_url, shown_name, shown_url
from comfyworker.workflow.weights import node_weights

__all__ = [
    "FileInput",
    "InputSpec",
    "NodeClass",
    "NodeClasses",
    "ObjectInfo",
    "Override",
    "UrlInput",
    "ancestors",
    "apply_overrides",
    "check_workflow",
    "class_of",
    "file_name",
    "find_file_inputs",
    "find_url_inputs",
    "is_link",
    "is_url",
    "links",
    "mark_outputs",
    "model_files",
    "node_weights",
    "parse_assignment",
    "problems_from_comfyui",
    "raise_problems",
    "read_workflow",
    "rename_files",
    "shown_name",
    "shown_url",
    "sound_outputs",
    "title_of",
]
