"""What several tests need: a real ComfyUI, a proxy that makes faults, workflows, waiting."""
