"""Jobs from RunPod Serverless, by RunPod's own SDK."""

from comfyworker.hosts.runpod.answering import answer_job
from comfyworker.hosts.runpod.limits import answer_limit_bytes
from comfyworker.hosts.runpod.serving import run

__all__ = ["answer_job", "answer_limit_bytes", "run"]
