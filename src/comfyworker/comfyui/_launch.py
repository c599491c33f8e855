"""Run ComfyUI's main.py in ComfyUI's own interpreter: `python _launch.py PATH/main.py [ARGUMENT...]`.

All that differs from `python PATH/main.py` is that torchvision can be imported where its native library does not load.
PyPI's torchvision for Linux is built for CUDA; beside a CPU build of torch `import torchvision` then fails with
"operator torchvision::nms does not exist", and ComfyUI, which needs only its transforms, does not start.

torch itself is not touched before ComfyUI has imported it: main.py first sets the variables that torch reads.
"""

import os
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")

# Operators live as long as the library object that defined them.
_defined = []


class TorchvisionFinder:
    """A finder that finds nothing: it acts once, when torchvision is about to be imported."""

    def find_spec(self, name, path=None, target=None) -> None:  # noqa: ANN001, ARG002 # importlib names them
        """Make torchvision's operators known; leave finding the module to the others."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            prepare_torchvision()


def prepare_torchvision() -> None:
    """Declare the operators that `import torchvision` registers for, where its own library cannot bring them."""
    from importlib import import_module
    from importlib.machinery import PathFinder
    from pathlib import Path

    spec = PathFinder.find_spec("torchvision")
    if spec is None or not spec.origin:
        return
    try:
        torch = import_module("torch")
    except ImportError:
        return  # importing torchvision, which comes next, says it better
    for library in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        try:
            library.define(operator + _SCHEMA)
        except RuntimeError:
            continue  # something else has brought it
    _defined.append(library)


def main() -> None:
    """Run main.py as if it had been called itself."""
    if len(sys.argv) < 2:
        sys.exit("usage: python _launch.py PATH/main.py [ARGUMENT...]")
    del sys.argv[0]
    script = os.path.abspath(sys.argv[0])
    # Before any other import: this script's folder holds modules with names of the standard library.
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    sys.meta_path.insert(0, TorchvisionFinder())

    import runpy

    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
