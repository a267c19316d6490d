"""The default network has no attention, forward and backward, and the block `attention` has.

Attention is told by what runs, not by names of modules: operators of attention or softmax; matrix
products of two activations; tensors that grow faster than the number of tokens.
"""

import re
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from liquidgen.config.params import load_params
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.pipeline.card import ATTENTION_FREE

RAW = load_params().raw
DEFAULT = RAW["block"]
OF_ATTENTION = re.compile(r"attention|attn|softmax", re.IGNORECASE)
PRODUCTS = re.compile(r"aten\.(mm|addmm|bmm|baddbmm|addbmm|matmul|dot|mv|addmv)\.")
SIDES = (8, 16)  # tokens along one side; the second has four times as many tokens


class Operation(NamedTuple):
    """An operator that ran."""

    name: str
    size: int  # elements of its largest output
    weighted: bool  # whether a factor is a parameter, if it is a product


class Record(TorchDispatchMode):
    """Records every operator below autograd, so also those of a backward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parameters = {one.untyped_storage().data_ptr() for one in model.parameters()}
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(result) if isinstance(one, Tensor)]
        # a bias is added, not multiplied: the factors are the last two tensors
        factors = [one for one in args if isinstance(one, Tensor)][-2:]
        weighted = any(one.untyped_storage().data_ptr() in self.parameters for one in factors)
        self.operations.append(Operation(str(func), max(sizes, default=0), weighted))
        return result


def operations(block: str, side: int) -> list[Operation]:
    """Return the operators of a step of a network with a block type, away from its start."""
    sizes = {
        "in_channels": 4,
        "sample_size": side,
        "num_classes": 3,
        "width": [32, 32],
        "depth": [2, 2],
    }
    sizes |= {"cond_dim": 24, "patch_size": 1}
    torch.manual_seed(0)
    model = LiquidNet(**sizes, block=block, block_settings=RAW["blocks"][block])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x_t = torch.randn(2, 4, side, side)
    with Record(model) as record:
        model(x_t, torch.tensor([0.2, 0.7]), torch.tensor([0, 3])).square().mean().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    return record.operations


def signs_of_attention(block: str) -> set[str]:
    """Return what tells attention: of a step on 64 tokens, beside one on 256."""
    few, many = (operations(block, side) for side in SIDES)
    assert [one.name for one in few] == [one.name for one in many]
    assert any(PRODUCTS.match(one.name) and one.weighted for one in few)
    found = {"operator" for one in few if OF_ATTENTION.search(one.name)}
    for one, more in zip(few, many, strict=True):
        # the gradient of a weight is a product of two activations, too, but of the weight's size
        if PRODUCTS.match(one.name) and not one.weighted and more.size > one.size:
            found.add("product of activations")
        if more.size > 4 * one.size:
            found.add("size")
    return found


@pytest.mark.parametrize("block", sorted({DEFAULT, *ATTENTION_FREE}))
def test_no_attention_anywhere(block: str):
    assert signs_of_attention(block) == set()
    with sdpa_kernel(SDPBackend.MATH):  # which would write attention out as products and softmax
        assert signs_of_attention(block) == set()


def test_default_network_is_the_one_without_attention():
    assert DEFAULT in ATTENTION_FREE


def test_attention_is_detected():
    """Of one operator by its name, and written out by each sign."""
    assert signs_of_attention("attention") == {"operator"}
    with sdpa_kernel(SDPBackend.MATH):
        found = signs_of_attention("attention")
    assert found == {"operator", "product of activations", "size"}
