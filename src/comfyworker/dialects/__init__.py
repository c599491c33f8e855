"""What requests and answers look like, for each client that is served; no I/O."""

from comfyworker.dialects.names import DIALECT_NAMES
from comfyworker.dialects.protocol import Dialect
from comfyworker.dialects.registry import choose_dialect, dialect_named
from comfyworker.dialects.request import wanted_id

__all__ = ["DIALECT_NAMES", "Dialect", "choose_dialect", "dialect_named", "wanted_id"]
