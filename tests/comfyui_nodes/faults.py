"""Nodes that take long, fail, or harm ComfyUI."""

import builtins
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import comfy.model_management
import comfy.utils
import torch
from comfy_execution.graph_utils import ExecutionBlocker

IMAGE = ("IMAGE",)
POLL_INTERVAL_S = 0.01


class TestWait:
    """Pass an image through, after some steps of some seconds, or once a file exists.

    Each step is reported, and an interrupt ends the wait within 10 ms. With `until_file`, the first step is
    reported at once and the others when the file is there, so a test decides how long the node runs.
    """

    CATEGORY = "tests"
    FUNCTION = "wait"
    RETURN_TYPES = IMAGE

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": IMAGE,
                "steps": ("INT", {"default": 4, "min": 1, "max": 10_000}),
                "seconds_per_step": ("FLOAT", {"default": 0.05, "min": 0.0, "max": 600.0}),
                "until_file": ("STRING", {"default": ""}),
            },
            "optional": {"token": ("STRING", {"default": ""})},  # two waits with other tokens are not cached
        }

    def wait(self, image, steps, seconds_per_step, until_file, token=""):
        bar = comfy.utils.ProgressBar(steps)
        for step in range(1, steps + 1):
            if until_file:
                bar.update_absolute(step)
                self._until(lambda: Path(until_file).exists())
            else:
                end = time.monotonic() + seconds_per_step
                self._until(lambda end=end: time.monotonic() >= end)
                bar.update_absolute(step)
        return (image,)

    @staticmethod
    def _until(is_done):
        comfy.model_management.throw_exception_if_processing_interrupted()
        while not is_done():
            # Polled: neither ComfyUI's interrupt flag nor a file's birth can be waited for in a portable way.
            time.sleep(POLL_INTERVAL_S)
            comfy.model_management.throw_exception_if_processing_interrupted()


class TestRaise:
    """Raise a builtin exception."""

    CATEGORY = "tests"
    FUNCTION = "fail"
    RETURN_TYPES = IMAGE
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "exception": ("STRING", {"default": "ValueError"}),
                "message": ("STRING", {"default": "raised by a test", "multiline": True}),
            },
            "optional": {"image": IMAGE},
        }

    def fail(self, exception, message, image=None):
        raise getattr(builtins, exception)(message)


class TestOutOfMemory:
    """Run out of memory, in each of the ways in which that reaches a client."""

    CATEGORY = "tests"
    FUNCTION = "allocate"
    RETURN_TYPES = IMAGE
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"kind": (["gpu", "cpu", "python"],)},
            "optional": {"image": IMAGE},
        }

    def allocate(self, kind, image=None):
        if kind == "gpu":
            # The class that torch raises on a GPU, in its words; a machine without one cannot be made to raise it.
            raise comfy.model_management.OOM_EXCEPTION(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which "
                "1.02 GiB is free."
            )
        if kind == "cpu":
            return (torch.empty(2**48, dtype=torch.float32),)  # a PiB: more than a process can address
        raise MemoryError


class TestCrash:
    """Kill ComfyUI as the kernel's out-of-memory killer would."""

    CATEGORY = "tests"
    FUNCTION = "crash"
    RETURN_TYPES = IMAGE
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"image": IMAGE}}

    def crash(self, image=None):
        print("TestCrash: the last words before the end", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class TestBlock:
    """Block everything behind it; with a message, ComfyUI reports an error for the blocked output node."""

    CATEGORY = "tests"
    FUNCTION = "block"
    RETURN_TYPES = IMAGE

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": IMAGE, "message": ("STRING", {"default": ""})}}

    def block(self, image, message):
        return (ExecutionBlocker(message or None),)


class TestSpawn:
    """Start two processes that outlive the node, as some custom nodes do, and write their ids to a file.

    `child` is an ordinary child. `daemon` has a session of its own and a parent that is gone: no process group
    and no line of parents leads to it.
    """

    CATEGORY = "tests"
    FUNCTION = "spawn"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pid_file": ("STRING", {"default": ""})}}

    def spawn(self, pid_file):
        child = subprocess.Popen(["sleep", "3600"])
        script = "setsid sleep 3600 >/dev/null 2>&1 </dev/null & echo $!"
        daemon = int(subprocess.check_output(["sh", "-c", script]))
        partial = Path(f"{pid_file}.partial")
        partial.write_text(json.dumps({"child": child.pid, "daemon": daemon}), encoding="utf-8")
        partial.replace(pid_file)
        return {"ui": {"text": [f"{child.pid} {daemon}"]}}
