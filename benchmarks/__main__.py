"""`python -m benchmarks`: measure what the worker adds to ComfyUI; see README.md."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # The tests know how to start a real ComfyUI, and have the workflows for it.
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
    from benchmarks.bench import main

    sys.exit(main(sys.argv[1:]))
