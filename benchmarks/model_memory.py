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

from benchmarks.rivals import CHANNELS, CLASSES, batch, parameters
from liquidgen.config import load_params
from liquidgen.models.liquidnet import LiquidNet

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


def needed(size: dict, block: dict, px: int) -> tuple[float, float]:
    """GiB of a training, plain and with gradient checkpointing."""
    side = px // DOWNSCALE
    with FakeTensorMode():
        network = LiquidNet(
            in_channels=CHANNELS,
            sample_size=side,
            num_classes=CLASSES,
            **size,
            block="liquid",
            block_settings=block,
        )
        own = BYTES * parameters(network)
        x_t, *conditions = batch(BATCH, side)
        x_t = x_t.to(memory_format=torch.channels_last)  # and so is all that follows from it
        plain = kept(network, x_t, *conditions)
        network.checkpoint_blocks = True
        checkpointed = kept(network, x_t, *conditions)
        grid = side // size["patch_size"]
        x = torch.empty(BATCH, size["width"], grid, grid, dtype=torch.bfloat16, requires_grad=True)
        cond = torch.empty(BATCH, size["cond_dim"], requires_grad=True)
        one = kept(network.blocks[0], x.to(memory_format=torch.channels_last), cond)
    # a checkpoint holds the inputs of its block itself, where hooks do not see them
    checkpointed += size["depth"] * x.nbytes + one
    return (own + plain) / 2**30, (own + checkpointed) / 2**30


def main() -> None:
    """Print one line a size and resolution."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    raw = load_params().raw
    print("| size | image | plain, GiB | checkpointed, GiB | aim, GB |")
    print("|---|---|---|---|---|")
    for size, aim in AIMS.items():
        for px in (256, 512):
            plain, checkpointed = needed(raw["models"][size], raw["blocks"]["liquid"], px)
            goal = aim if px == 256 else ""
            print(f"| {size} | {px} px | {plain:.1f} | {checkpointed:.1f} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
