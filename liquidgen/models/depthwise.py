"""Depthwise convolution whose backward pass is quick on a CPU, too."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """Convolution of each channel by itself; (B, D, H, W) stays (B, D, H, W).

    On a CPU the weight's gradient of PyTorch takes 3 to 40 times as long as the forward pass, and
    the bias makes it slower still. There it is computed as another depthwise convolution.
    """

    def __init__(self, width: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__(width, width, kernel_size, padding="same", groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        tensors = (x, self.weight, self.bias)
        if torch.is_autocast_enabled("cpu"):  # which does not look into autograd functions
            tensors = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)
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
        # weight[k] meets x[i + k] at each output i: x convolved with the gradient as its kernel,
        # where each channel of each image is a group of its own
        one_by_one = F.conv2d(
            x.reshape(1, -1, *x.shape[2:]),
            grad.reshape(-1, 1, *grad.shape[2:]),
            padding=[side // 2 for side in weight.shape[2:]],
            groups=x.shape[0] * x.shape[1],
        )
        for_weight = one_by_one.unflatten(1, x.shape[:2]).sum((0, 1))[:, None]
        return for_x, for_weight, grad.sum((0, 2, 3))
