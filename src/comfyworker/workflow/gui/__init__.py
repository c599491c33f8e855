"""Workflows in GUI format: what ComfyUI's page saves, turned into API format as that page does it."""

from comfyworker.workflow.gui.convert import Conversion, convert_gui, convert_what_can_be
from comfyworker.workflow.gui.document import is_gui_format
from comfyworker.workflow.metadata import ListedModel

__all__ = ["Conversion", "ListedModel", "convert_gui", "convert_what_can_be", "is_gui_format"]
