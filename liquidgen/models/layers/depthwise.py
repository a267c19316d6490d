"""Depthwise convolution with a fast backward pass on a CPU; elsewhere it is PyTorch's own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """Convolves each channel separately; (B, D, H, W) stays (B, D, H, W).

    On a CPU, PyTorch's gradient of the weight takes 3 to 40 times as long as the forward pass, and
    a bias makes it slower still. Here the gradient is another depthwise convolution, or a sum of
    products for kernels of one row.
    """

    bias: nn.Parameter  # nn.Conv2d has one unless told otherwise

    def __init__(self, width: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__(width, width, kernel_size, padding="same", groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        tensors: list[Tensor] = [x, self.weight, self.bias]
        if torch.is_autocast_enabled("cpu"):  # autocast does not apply within autograd functions
            tensors = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors]
        return _DepthwiseOnCPU.apply(*tensors)


class _DepthwiseOnCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding="same", groups=len(weight))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        for_x = F.conv2d(grad, weight.flip(2, 3), padding="same", groups=len(weight))
        by_weight = _by_products if weight.shape[2] == 1 else _by_convolution
        for_weight = torch.empty_like(weight)  # with the strides that DDP's buckets have
        for_weight.copy_(by_weight(x, grad, weight.shape[2:]))
        return for_x, for_weight, grad.sum((0, 2, 3))


# output[i] contains weight[k] * x[i + k], so the gradient of weight[k] is the sum of
# grad[i] * x[i + k] over i


def _by_products(x: Tensor, grad: Tensor, kernel: torch.Size) -> Tensor:
    """Multiply and sum for each tap of a row: faster than `_by_convolution` for few taps."""
    x, grad = (tensor.permute(0, 2, 3, 1) for tensor in (x, grad))
    columns = x.shape[2]
    taps = kernel[1]
    padded = F.pad(x, (0, 0, taps // 2, taps // 2))
    sums = [(padded[:, :, k : k + columns] * grad).sum((0, 1, 2)) for k in range(taps)]
    return torch.stack(sums, dim=1)[:, None, None]


def _by_convolution(x: Tensor, grad: Tensor, kernel: torch.Size) -> Tensor:
    """Convolve x with grad as its kernel, where each channel of each image is a group."""
    batch, width, *sides = x.shape
    # transposed as matrices: torch copies those up to three times as fast as a permuted map
    x, grad = (
        tensor.permute(0, 2, 3, 1).reshape(-1, width).t().reshape(-1, *sides)
        for tensor in (x, grad)
    )
    padding = [side // 2 for side in kernel]
    for_images = F.conv2d(x[None], grad[:, None], padding=padding, groups=len(x))
    return for_images.view(width, 1, batch, *kernel).sum(2)
