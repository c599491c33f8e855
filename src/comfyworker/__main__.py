"""`python -m comfyworker` is the `comfyworker` command."""

from comfyworker.cli import main

main()
