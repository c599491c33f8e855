"""Input files: decoded, checked, and placed where ComfyUI finds them."""
