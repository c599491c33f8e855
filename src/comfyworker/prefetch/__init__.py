"""Models brought nearer before ComfyUI loads them: read into memory, or copied to the local disk."""
