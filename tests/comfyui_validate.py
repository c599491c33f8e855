"""Say what ComfyUI has, and what it says of workflows: its own validation, with nothing queued and nothing served.

Runs in ComfyUI's interpreter, with ComfyUI's folder as the working directory:
`comfyui_validate.py OBJECT_INFO WORKFLOWS ANSWERS`. OBJECT_INFO is written once the nodes are loaded; then each line on
standard input says that WORKFLOWS (name → workflow) is there, and ANSWERS (name → {"valid", "error", "node_errors"})
is written. Each time a line on standard output says that it is.
"""

import asyncio
import importlib.util
import json
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock


def prepare():
    """Make ComfyUI's modules importable, as its main.py does."""
    sys.path.insert(0, str(Path.cwd()))
    sys.argv[1:] = ["--cpu"]
    logging.disable(logging.ERROR)
    if importlib.util.find_spec("torchaudio") is None:
        # Nothing runs here, and without it the audio nodes, whose declarations are wanted, cannot be imported.
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))
    import comfy.options

    comfy.options.enable_args_parsing()
    # Before all others, or a module of that name hides the package.
    importlib.import_module("utils.extra_config")


def describe(class_type):
    """Return one class as `GET /object_info` does (ComfyUI `server.py` node_info)."""
    import nodes

    found = nodes.NODE_CLASS_MAPPINGS[class_type]
    if hasattr(found, "GET_NODE_INFO_V1"):
        return found.GET_NODE_INFO_V1()
    inputs = found.INPUT_TYPES()
    return {
        "input": inputs,
        "input_order": {group: list(names) for group, names in inputs.items()},
        "output": found.RETURN_TYPES,
        "name": class_type,
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(class_type, class_type),
        "python_module": getattr(found, "RELATIVE_PYTHON_MODULE", "nodes"),
        "output_node": getattr(found, "OUTPUT_NODE", False) is True,
    }


async def main(object_info, workflows, answers):
    """Answer the first question, then the second as often as it is asked."""
    import nodes
    from execution import validate_prompt

    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=True)
    object_info.write_text(json.dumps({name: describe(name) for name in nodes.NODE_CLASS_MAPPINGS}))
    print("ready", flush=True)
    for _ in sys.stdin:
        found = {}
        for name, workflow in json.loads(workflows.read_text()).items():
            valid, error, _, node_errors = await validate_prompt(name, workflow, None)
            found[name] = {"valid": valid, "error": error, "node_errors": node_errors}
        answers.write_text(json.dumps(found, default=str))
        print("answered", flush=True)


if __name__ == "__main__":
    paths = [Path(argument).absolute() for argument in sys.argv[1:4]]
    prepare()
    asyncio.run(main(*paths))
