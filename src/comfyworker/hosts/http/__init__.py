"""The HTTP host: one server that speaks RunPod's, Vast's and Comfy's APIs over one queue."""
