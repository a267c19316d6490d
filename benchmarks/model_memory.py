"""Training memory per model size, from the tensors that autograd keeps; runs in a minute.

    python -m benchmarks.model_memory

The forward pass runs on fake tensors, which compute nothing, under bf16 autocast at batch 32; each
storage kept for the backward pass counts once. 20 bytes per parameter are added: fp32 weight,
gradient, two moments of AdamW, and EMA. With gradient checkpointing the blocks keep only their
inputs, and the tensors of one block are added for its second run. Weights cast to bf16 count.
Workspaces, the GPU's context and short-lived gradients are not included.
"""

import argparse
import math
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.baselines import Latents, batch, liquidnet, parameters
from liquidgen.config.params import load_params
from liquidgen.config.settings import ModelSettings

BATCH = 32
DOWNSCALE = 8  # px per latent, along one side
BYTES = 20  # per parameter
TARGETS = {"small": 6, "base": 10, "large": 14}  # GB, at 256 px


def kept(network: nn.Module, *arguments: Tensor) -> int:
    """Return the bytes that autograd keeps for the backward pass, without weights."""
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    storages = {}
    held = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage.nbytes()
            held.append(storage)  # keep it alive, so that its address is not reused
        return tensor

    with ExitStack() as stack:
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        network(*arguments)
    return sum(storages.values())


def needed(model: ModelSettings, blocks: dict, px: int) -> tuple[float, float]:
    """Return GiB of a training, without and with gradient checkpointing."""
    side = px // DOWNSCALE
    with FakeTensorMode():
        network = liquidnet(model, "liquid", blocks, Latents(side))
        own = BYTES * parameters(network)
        x_t, *conditions = batch(BATCH, side)
        x_t = x_t.to(memory_format=torch.channels_last)  # and so are all maps computed from it
        plain = kept(network, x_t, *conditions)
        network.gradient_checkpointing = True
        checkpointed = kept(network, x_t, *conditions)
        grid = side // model.patch_size
        level_sides = [math.ceil(grid / 2**i) for i in range(len(model.width))]
        inputs = [
            torch.empty(BATCH, width, level_side, level_side, dtype=torch.bfloat16)
            for width, level_side in zip(model.width, level_sides, strict=True)
        ]
        x = inputs[0].requires_grad_()  # the first level has the largest maps
        cond = torch.empty(BATCH, model.cond_dim, requires_grad=True)
        one = kept(network.blocks[0], x.to(memory_format=torch.channels_last), cond)
    # checkpoint() stores the inputs of a block itself, invisible to the hooks
    stored = sum(n * maps.nbytes for n, maps in zip(model.depth, inputs, strict=True))
    checkpointed += stored + one
    return (own + plain) / 2**30, (own + checkpointed) / 2**30


def main() -> None:
    """Print one line per size and resolution."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| size | image | plain, GiB | checkpointed, GiB | target, GB |")
    print("|---|---|---|---|---|")
    for size, target in TARGETS.items():
        params = load_params(changes={"model": size})
        for px in (256, 512):
            plain, checkpointed = needed(params.model, params.raw["blocks"], px)
            goal = target if px == 256 else ""
            print(f"| {size} | {px} px | {plain:.1f} | {checkpointed:.1f} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
