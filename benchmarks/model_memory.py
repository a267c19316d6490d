"""Memory that training a size needs, from the tensors that autograd keeps; runs in seconds.

    python -m benchmarks.model_memory

The forward pass runs on fake tensors, which compute nothing, under bf16 autocast at batch 32; each
storage kept for the backward pass counts once. Added are 20 bytes a parameter: fp32 weight,
gradient, two moments of AdamW and average. With gradient checkpointing the blocks keep their inputs
only, and one block's tensors are added for its second run. Weights cast to bf16 count. Not in it:
workspaces, the context of a GPU, and gradients that live for a moment.
"""

import argparse
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.rivals import batch, liquidnet, parameters
from liquidgen.config.params import load_params
from liquidgen.config.settings import ModelSettings

BATCH = 32
DOWNSCALE = 8  # px a latent
BYTES = 20  # a parameter
AIMS = {"small": 6, "base": 10, "large": 14}  # GB, at 256 px


def kept(network: nn.Module, *arguments: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, weights left out."""
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    storages, held = {}, []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage.nbytes()
            held.append(storage)  # alive, so that its address is not used again
        return tensor

    with ExitStack() as stack:
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        network(*arguments)
    return sum(storages.values())


def needed(model: ModelSettings, blocks: dict, px: int) -> tuple[float, float]:
    """GiB of a training, plain and with gradient checkpointing."""
    side = px // DOWNSCALE
    with FakeTensorMode():
        network = liquidnet(model, blocks, side)
        own = BYTES * parameters(network)
        x_t, *conditions = batch(BATCH, side)
        x_t = x_t.to(memory_format=torch.channels_last)  # and so is all that follows from it
        plain = kept(network, x_t, *conditions)
        network.checkpoint_blocks = True
        checkpointed = kept(network, x_t, *conditions)
        grid = side // model.patch_size
        x = torch.empty(BATCH, model.width, grid, grid, dtype=torch.bfloat16, requires_grad=True)
        cond = torch.empty(BATCH, model.cond_dim, requires_grad=True)
        one = kept(network.blocks[0], x.to(memory_format=torch.channels_last), cond)
    # a checkpoint holds the inputs of its block itself, where hooks do not see them
    checkpointed += model.depth * x.nbytes + one
    return (own + plain) / 2**30, (own + checkpointed) / 2**30


def main() -> None:
    """Print one line a size and resolution."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    raw = load_params().raw
    print("| size | image | plain, GiB | checkpointed, GiB | aim, GB |")
    print("|---|---|---|---|---|")
    for size, aim in AIMS.items():
        model = ModelSettings(**raw["models"][size])
        for px in (256, 512):
            plain, checkpointed = needed(model, raw["blocks"], px)
            goal = aim if px == 256 else ""
            print(f"| {size} | {px} px | {plain:.1f} | {checkpointed:.1f} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
