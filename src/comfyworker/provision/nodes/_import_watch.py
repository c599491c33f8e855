"""Start ComfyUI and write down how each custom node loads.

Usage: `python _import_watch.py REPORT LAUNCHER PATH/main.py [ARGUMENT...]`

Runs in ComfyUI's own interpreter, with the standard library only. ComfyUI itself says of a custom node that fails no
more than a traceback in its log; here its exception is taken while ComfyUI handles it. REPORT gets one JSON object a
line as things happen, so that it tells which custom node was being loaded when the whole process ended.
"""

import importlib.machinery
import importlib.util
import inspect
import json
import logging
import os
import runpy
import sys
import time
import traceback

_PRESTARTUP = "prestartup_script.py"


class Report:
    """Writes lines that are on the disk at once."""

    def __init__(self, path) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 # open until the process ends
        self.error = None

    def write(self, event, **fields) -> None:
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()


class Ear(logging.Handler):
    """Hears ComfyUI log that something failed, while the exception is still being handled."""

    def __init__(self, report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record) -> None:  # noqa: ARG002 # logging names it
        error = sys.exc_info()[1]
        if error is not None:
            self._report.error = error


class NodesFinder:
    """Finds ComfyUI's module `nodes`, and watches its function that loads a custom node."""

    def __init__(self, report) -> None:
        self._report = report

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002 # importlib names them
        if name != "nodes":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec("nodes")
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            watch_loading(module, self._report)

        spec.loader.exec_module = exec_module
        return spec


def watch_loading(nodes, report) -> None:
    """Have each call of `load_custom_node` written down."""
    load = nodes.load_custom_node

    async def watched(module_path, *args, **kwargs):
        if kwargs.get("module_parent", "custom_nodes") != "custom_nodes":
            return await finish(load(module_path, *args, **kwargs))
        report.error = None
        report.write("loading", path=module_path)
        started = time.monotonic()
        is_loaded = await finish(load(module_path, *args, **kwargs))
        fields = {} if is_loaded else describe(report.error)
        count = count_nodes(nodes, os.path.basename(module_path))
        report.write(
            "loaded", path=module_path, ok=bool(is_loaded), seconds=time.monotonic() - started, count=count, **fields
        )
        return is_loaded

    nodes.load_custom_node = watched


async def finish(result):
    """Return what a call gave, which was a plain function in older versions of ComfyUI."""
    return await result if inspect.isawaitable(result) else result


def count_nodes(nodes, name) -> int:
    """Return how many classes of nodes a custom node has brought."""
    module = "custom_nodes." + name
    return sum(getattr(node, "RELATIVE_PYTHON_MODULE", None) == module for node in nodes.NODE_CLASS_MAPPINGS.values())


def describe(error) -> dict:
    """Return what is known of an exception."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "is_import": isinstance(error, ImportError),
        "message": str(error),
        "module": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "frames": [[frame.filename, frame.lineno] for frame in frames[-30:]],
    }


def watch_prestartup(report) -> None:
    """Have it written down which custom node's prestartup_script.py is run; ComfyUI finds it by this function."""
    find = importlib.util.spec_from_file_location

    def watched(name, location=None, *args, **kwargs):
        if location is not None and os.path.basename(str(location)) == _PRESTARTUP:
            report.write("loading", path=os.path.dirname(str(location)))
        return find(name, location, *args, **kwargs)

    importlib.util.spec_from_file_location = watched


def main() -> None:
    """Run ComfyUI's launcher as if it had been called itself."""
    _, path, launcher, *arguments = sys.argv
    report = Report(path)
    logging.getLogger().addHandler(Ear(report))
    sys.meta_path.insert(0, NodesFinder(report))
    watch_prestartup(report)
    sys.argv = [launcher, *arguments]
    try:
        runpy.run_path(launcher, run_name="__main__")
    except SystemExit as end:
        if end.code in (None, 0):
            report.write("ended")
        raise
    report.write("ended")


if __name__ == "__main__":
    main()
