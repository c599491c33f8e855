"""Make a tiny Stable Diffusion 3 checkpoint of random weights, which walks the whole road of a real one.

Runs in ComfyUI's interpreter, with ComfyUI's folder as the working directory: `python make_checkpoint.py OUT`.
ComfyUI reads a model's size from the shapes in the checkpoint, so the smallest one that its loader takes will do.
The weights come from a fixed seed: pictures made with it are noise, but the same noise everywhere.
"""

import json
import os
import sys
from pathlib import Path

DEPTH = 2  # MMDiT is 64 times depth wide
LATENT_CHANNELS = 16
TEXT_WIDTH = 4096
POSITIONS = 64


def diffusion_model(operations):
    """Return the smallest MMDiT that ComfyUI's detection takes for SD3."""
    import torch
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return MMDiT(
        input_size=None,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        depth=DEPTH,
        adm_in_channels=2048,
        pos_embed_max_size=POSITIONS,
        num_patches=POSITIONS**2,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": TEXT_WIDTH, "out_features": 64 * DEPTH},
        },
        dtype=torch.float32,
        device="cpu",
        operations=operations,
    )


def text_encoder(operations):
    """Return CLIP-L as ComfyUI's own configuration describes it; it makes up most of the file."""
    import comfy.clip_model
    import torch

    config = json.loads(Path("comfy/sd1_clip_config.json").read_text(encoding="utf-8"))
    return comfy.clip_model.CLIPTextModel(config, torch.float32, "cpu", operations)


def random_weights(module, prefix, scale, generator):
    """Return fp16 normals times `scale` in the shapes of `module`, under `prefix`."""
    import torch

    weights = {}
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            normals = torch.randn(value.shape, generator=generator) * scale
            weights[prefix + name] = normals.to(torch.float16).contiguous()
        else:
            weights[prefix + name] = value.contiguous()
    return weights


def main():
    """Write the checkpoint to the path in the first argument; it appears there whole or not at all."""
    out = Path(sys.argv[1]).resolve()
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, str(Path.cwd()))

    import comfy.options

    comfy.options.enable_args_parsing()  # before anything of ComfyUI's looks for a GPU

    import comfy.ops
    import torch
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    operations = comfy.ops.disable_weight_init
    generator = torch.Generator().manual_seed(20)
    weights = random_weights(diffusion_model(operations), "model.diffusion_model.", 0.02, generator)
    weights |= random_weights(TAESD(latent_channels=LATENT_CHANNELS), "first_stage_model.", 0.1, generator)
    weights |= random_weights(text_encoder(operations), "text_encoders.clip_l.transformer.", 0.02, generator)
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    save_file(weights, str(partial))
    partial.replace(out)


if __name__ == "__main__":
    main()
