"""One job service below all APIs: a durable queue, the results, the events and the assets.

It knows no HTTP and no dialect. What runs a job is given to it.
"""

from comfyworker.service.answering import inline_files
from comfyworker.service.assets import Assets
from comfyworker.service.events import Event, EventKind, LogLine, Preview, StatusChange
from comfyworker.service.keeping import kept_delivery, running_record
from comfyworker.service.protocol import EndTeller, Runner
from comfyworker.service.records import AssetRecord, Counts, JobPage, JobRecord, KeptArtifact, KeptResult, Submission
from comfyworker.service.service import JobService

__all__ = [
    "AssetRecord",
    "Assets",
    "Counts",
    "EndTeller",
    "Event",
    "EventKind",
    "JobPage",
    "JobRecord",
    "JobService",
    "KeptArtifact",
    "KeptResult",
    "LogLine",
    "Preview",
    "Runner",
    "StatusChange",
    "Submission",
    "inline_files",
    "kept_delivery",
    "running_record",
]
