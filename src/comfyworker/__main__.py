"""`python -m comfyworker` is the `comfyworker` command."""

from comfyworker.cli import main

if __name__ == "__main__":
    main()
