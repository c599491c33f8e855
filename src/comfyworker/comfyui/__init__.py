"""ComfyUI: where it is, its process, its API, what runs on it; the only room that speaks to it."""
