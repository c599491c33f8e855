"""The `comfyworker` command."""
