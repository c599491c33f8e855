"""Model files fetched: in ranges, resumed, looked at, and put in their place whole or not at all."""

from comfyworker.provision.download._hashing import hash_file
from comfyworker.provision.download._progress import OnBytes
from comfyworker.provision.download.addresses import plain_url, shown_source
from comfyworker.provision.download.cached import cached_remote
from comfyworker.provision.download.downloader import Downloader
from comfyworker.provision.download.filenames import is_plain_filename
from comfyworker.provision.download.leftovers import Leftover, find_leftovers, is_unfinished, kept_bytes
from comfyworker.provision.download.linking import link_known
from comfyworker.provision.download.records import BucketModel, Download, Receipt, Remote
from comfyworker.provision.download.space import free_bytes

__all__ = [
    "BucketModel",
    "Download",
    "Downloader",
    "Leftover",
    "OnBytes",
    "Receipt",
    "Remote",
    "cached_remote",
    "find_leftovers",
    "free_bytes",
    "hash_file",
    "is_plain_filename",
    "is_unfinished",
    "kept_bytes",
    "link_known",
    "plain_url",
    "shown_source",
]
