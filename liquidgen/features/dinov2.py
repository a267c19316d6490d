"""DINOv2 ViT-L/14 from the Hugging Face Hub: the network of FD-DINOv2 (Stein et al. 2023).

Features of self-supervised training (Oquab et al. 2023) follow human judgment of images better
than Inception's. Preprocessing is that of Stein et al.: bicubic to 224 px, the mean and deviation
of ImageNet, the class token after the last norm.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from liquidgen.features import resize
from liquidgen.hub.download import cached, download
from liquidgen.hub.repository import HubRepo
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256

REPO = HubRepo("model", "facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHA256 = "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23"
INSTALL = "pip install 'liquidgen[dinov2]'"
INPUT_SIDE = 224  # px
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, per color
DEVIATION = (0.229, 0.224, 0.225)


class Dinov2(nn.Module):
    """The network up to its class token: a `FeatureNetwork`.

    Args:
        network: The network of transformers.
        digest: SHA-256 of its weights.
    """

    name = "dinov2"
    input_side = INPUT_SIDE

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: Any, digest: str) -> None:
        super().__init__()
        self.digest = digest
        self.num_features = int(network.config.hidden_size)
        self._network: nn.Module = network
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (B, D) of pixels (B, 3, H, W) in [-1, 1], of any size."""
        unit = (resize(pixels, self.input_side) + 1) / 2
        levels = (unit * 255).round() / 255  # the published code resizes images of 8 bits
        tokens = self._network(pixel_values=(levels - self.mean) / self.deviation)
        return tokens.last_hidden_state[:, 0]


def load() -> Dinov2:
    """Load the network from the hub, or from its cache without a request.

    Raises:
        UserError: The extra is not installed, the hub does not give the files, or they are damaged.
    """
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise UserError(f"evaluate.features: dinov2 needs transformers: `{INSTALL}`") from None
    folder = checked_folder()
    network = Dinov2Model.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    return Dinov2(network, SHA256)


def checked_folder() -> Path:
    """Return the folder of the files, which are downloaded unless the cache has them.

    Raises:
        UserError: The hub does not give them, or gives others.
    """
    names = [CONFIG, WEIGHTS]
    folder = cached(REPO, REPO.revision, names) or download(REPO, REPO.revision, names)
    if file_sha256(folder / WEIGHTS) != SHA256:
        folder = download(REPO, REPO.revision, names, force=True)
        if file_sha256(folder / WEIGHTS) != SHA256:
            raise UserError(
                f"{folder / WEIGHTS}: other weights than expected, also after another download"
            )
    return folder
