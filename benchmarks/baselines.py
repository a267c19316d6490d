"""Networks that benchmarks compare: LiquidNet, and rivals of equal parameters.

All take noisy latents, t and labels, have the same tokens, and start from zero velocity. The rivals
are a DiT (Peebles & Xie 2023) and a convolutional U-Net without attention, both of diffusers, and a
DiCo (Ai et al. 2025), which is attention-free as LiquidNet is.
"""

from dataclasses import dataclass

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.dico import DiCo, initialize_time
from liquidgen.config.settings import ModelSettings
from liquidgen.models.layers.embeddings import TIME_SCALE
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

CLASSES = 10
CHANNELS = 16
FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Baseline:
    """Shapes whose parameters match a size of LiquidNet within 10%."""

    heads: int  # of the DiT
    head_dim: int  # channels per head
    layers: int
    unet: tuple[int, ...] = ()  # channels per level of the U-Net
    unet_layers: int = 0  # residual blocks per level
    dico: int = 0  # channels of the first level of the DiCo
    dico_blocks: tuple[int, ...] = ()  # per level; the first two again on the way up


BASELINES = {
    "nano": Baseline(4, 32, 6, (64, 96), 1, dico=32, dico_blocks=(3, 3, 3)),
    "tiny": Baseline(4, 64, 7, (96, 240), 1, dico=64, dico_blocks=(5, 5, 4)),
    "small": Baseline(9, 64, 9, (160, 304, 432), 2, dico=128, dico_blocks=(7, 7, 8)),
}
# sizes that are compared with a DiT alone, on a GPU
DIT_SHAPES = BASELINES | {"base": Baseline(12, 64, 12), "large": Baseline(15, 64, 17)}


@dataclass(frozen=True)
class Latents:
    """Shape of the latents that networks are made for."""

    side: int
    channels: int = CHANNELS
    classes: int = CLASSES


class Rival(nn.Module):
    """What a training asks of a network, as LiquidNet has it: `null_label`, `device`."""

    gradient_checkpointing = False  # set by the training; no rival needs it at these sizes
    channels_last = True  # the faster memory layout on a CPU

    def __init__(self, network: nn.Module, latents: Latents) -> None:
        super().__init__()
        self.network = network
        self.null_label = latents.classes

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device


class DiT(Rival):
    """DiT of diffusers, initialized and conditioned as in the paper.

    diffusers makes the architecture for trained weights, which it loads. For a training it lacks
    the initialization (adaLN-Zero, sec. 3.2 and appendix A), embeds time and class anew in each
    block, where the paper shares one embedding, and drops labels on its own in training.
    """

    def __init__(self, shape: Baseline, patch_size: int, latents: Latents) -> None:
        network = DiTTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.head_dim,
            num_layers=shape.layers,
            in_channels=latents.channels,
            out_channels=latents.channels,
            sample_size=latents.side,
            patch_size=patch_size,
            num_embeds_ada_norm=latents.classes,
            norm_eps=1e-6,
        )
        super().__init__(network, latents)
        shared = network.transformer_blocks[0].norm1.emb
        for block in network.transformer_blocks:
            block.norm1.emb = shared
        shared.class_embedder.dropout_prob = 0.0  # the training drops labels for all networks alike
        _initialize_dit(network)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity, (B, C, H, W)."""
        return self.network(x_t, t * TIME_SCALE, labels).sample


def _initialize_dit(network: DiTTransformer2DModel) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
            nn.init.zeros_(module.bias)
    for block in network.transformer_blocks:
        for projection in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
            # the paper has one layer for the three
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        nn.init.zeros_(block.norm1.linear.weight)
    nn.init.zeros_(network.proj_out_1.weight)
    nn.init.zeros_(network.proj_out_2.weight)
    embedding = network.transformer_blocks[0].norm1.emb
    nn.init.normal_(embedding.class_embedder.embedding_table.weight, std=0.02)
    initialize_time(embedding.timestep_embedder)


class UNet(Rival):
    """U-Net of diffusers without attention; patches become channels, for equal tokens.

    The last convolution of each residual block and of the network start at zero, and the condition
    scales and shifts the norms, as in ADM (Dhariwal & Nichol 2021).
    """

    channels_last = False  # 10% slower there

    def __init__(self, shape: Baseline, patch_size: int, latents: Latents) -> None:
        levels = len(shape.unet)
        network = UNet2DModel(
            sample_size=latents.side // patch_size,
            in_channels=latents.channels * patch_size**2,
            out_channels=latents.channels * patch_size**2,
            block_out_channels=shape.unet,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            layers_per_block=shape.unet_layers,
            norm_num_groups=16,
            resnet_time_scale_shift="scale_shift",
            add_attention=False,
            num_class_embeds=latents.classes + 1,
        )
        super().__init__(network, latents)
        self.patch_size = patch_size
        last = [module.conv2 for module in network.modules() if isinstance(module, ResnetBlock2D)]
        for convolution in (*last, network.conv_out):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity, (B, C, H, W)."""
        tokens = F.pixel_unshuffle(x_t, self.patch_size)
        velocity = self.network(tokens, t * TIME_SCALE, labels).sample
        return F.pixel_shuffle(velocity, self.patch_size)


class DiCoRival(Rival):
    """DiCo; patches become channels, for equal tokens."""

    def __init__(self, shape: Baseline, patch_size: int, latents: Latents) -> None:
        channels = latents.channels * patch_size**2
        if latents.side % (patch_size * 2 ** (len(shape.dico_blocks) - 1)):
            raise UserError(
                f"DiCo: latents of side {latents.side} cannot be halved "
                f"{len(shape.dico_blocks) - 1} times; choose another image_size, or leave DiCo out"
            )
        super().__init__(DiCo(channels, latents.classes, shape.dico, shape.dico_blocks), latents)
        self.patch_size = patch_size

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity, (B, C, H, W)."""
        tokens = F.pixel_unshuffle(x_t, self.patch_size)
        return F.pixel_shuffle(self.network(tokens, t, labels), self.patch_size)


RIVALS = {"DiT": DiT, "U-Net": UNet, "DiCo": DiCoRival}


def networks(size: str, model: ModelSettings, blocks: dict, side: int) -> dict[str, nn.Module]:
    """Create LiquidNet of a size, and its rivals, for latents of this side."""
    latents = Latents(side)
    made = {
        name: rival(BASELINES[size], model.patch_size, latents) for name, rival in RIVALS.items()
    }
    return {"LiquidNet": liquidnet(model, "liquid", blocks, latents), **made}


def liquidnet(model: ModelSettings, block: str, blocks: dict, latents: Latents) -> LiquidNet:
    """Create a LiquidNet of a size and block type for these latents."""
    return LiquidNet(
        in_channels=latents.channels,
        sample_size=latents.side,
        num_classes=latents.classes,
        **model.model_dump(),
        block=block,
        block_settings=blocks[block],
    )


def batch(size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random noisy latents, t and labels."""
    labels = torch.arange(size) % CLASSES
    return torch.randn(size, CHANNELS, side, side), torch.rand(size), labels


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(weight.numel() for weight in network.parameters())


def forward_flops(network: nn.Module, side: int) -> int:
    """Count the floating-point operations of one image's forward pass, without computing it."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(*(tensor.to("meta") for tensor in batch(1, side)))
    return counter.get_total_flops()
