# ruff: noqa: INP001  # the folder is the Hub's, not a package
"""Where RunPod's Hub looks for a handler: the worker's own command, as the image runs it."""

import sys

from comfyworker.cli import main

if __name__ == "__main__":
    sys.argv = ["comfyworker", "start", *sys.argv[1:]]
    main()
