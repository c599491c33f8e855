"""Object storage: where outputs go, under which keys, and how they get there."""

from comfyworker.delivery.store.buckets import StoredFile, find_bucket, list_files, read_fault, read_url
from comfyworker.delivery.store.connecting import Stores
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.finding import check_store_settings, find_location
from comfyworker.delivery.store.keys import check_template
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.delivery.store.parts import PartBuffers
from comfyworker.delivery.store.probing import ProbeStep, probe
from comfyworker.delivery.store.uploading import StoreDelivery

__all__ = [
    "PartBuffers",
    "ProbeStep",
    "StoreDelivery",
    "StoreFault",
    "StoreKind",
    "StoreLocation",
    "StoredFile",
    "Stores",
    "check_store_settings",
    "check_template",
    "find_bucket",
    "find_location",
    "list_files",
    "probe",
    "read_fault",
    "read_url",
]
