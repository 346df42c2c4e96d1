"""Low-resolution ResNet18 in PyTorch, the same function as `dj.create_model("resnet18", num_classes=10)`.

It takes the weights of the JAX network, so that both frameworks must return the same numbers.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARAMETERS = 11_173_962  # with width 64 and 10 classes


class Convolution(nn.Module):
    """A convolution without bias and its BatchNorm."""

    def __init__(self, inputs: int, filters: int, size: int, stride: int) -> None:
        super().__init__()
        # JAX's "SAME" gives stride 2 its one row of zeros below and to the right. PyTorch cannot say that in
        # the convolution; the copy takes well under a per cent of the time of a gradient.
        after_only = size == 3 and stride == 2
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if after_only else nn.Identity()
        padding = 0 if after_only else size // 2
        self.conv = nn.Conv2d(inputs, filters, size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(filters, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.pad(x)))


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, filters, 3, stride)
        self.second = Convolution(filters, filters, 3, 1)
        same = inputs == filters and stride == 1
        self.shortcut = nn.Identity() if same else Convolution(inputs, filters, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        # Not in place: whoever hooks the layers keeps their inputs.
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


class ResNet18(nn.Module):
    """3x3 stem without stride, no max-pool, basic blocks [2, 2, 2, 2]; in eval mode from the start."""

    def __init__(self, width: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.stem = Convolution(3, width, 3, 1)
        sizes = [width, width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        strides = [1, 1, 2, 1, 2, 1, 2, 1]
        self.blocks = nn.Sequential(*map(Block, sizes[:-1], sizes[1:], strides))
        self.head = nn.Linear(8 * width, classes)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(F.relu(self.stem(images))).mean((2, 3)))


def resnet18(weights: Mapping[str, np.ndarray], width: int = 64, classes: int = 10) -> ResNet18:
    """Returns the network with the weights of Flax's.

    Args:
        weights: by path, such as "params/ResidualBlock_0/Conv_1/kernel"; all of them must find their place.
        width: filters of the stem and the first stage.
        classes: number of logits.
    """
    net = ResNet18(width, classes)
    left = dict(weights)
    with torch.no_grad():
        for path, tensor in _places(net):
            array = left.pop(path)
            # Flax: height, width, input, output; and input, output.
            axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
            tensor.copy_(torch.from_numpy(np.array(array.transpose(axes))))
    if left:
        raise ValueError(f"no place for {sorted(left)}")
    count = sum(parameter.numel() for parameter in net.parameters())
    if width == 64 and classes == 10 and count != PARAMETERS:
        raise ValueError(f"the network should have {PARAMETERS} parameters, it has {count}")
    return net


def _places(net: ResNet18) -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor of the network with the path of its twin in Flax."""
    layers = [("", 0, net.stem)]
    for index, block in enumerate(net.blocks):
        parts = (block.first, block.second, block.shortcut)
        layers += [(f"ResidualBlock_{index}/", i, part) for i, part in enumerate(parts)]
    for folder, i, layer in layers:
        if isinstance(layer, nn.Identity):
            continue
        yield f"params/{folder}Conv_{i}/kernel", layer.conv.weight
        yield f"params/{folder}BatchNorm_{i}/scale", layer.norm.weight
        yield f"params/{folder}BatchNorm_{i}/bias", layer.norm.bias
        yield f"batch_stats/{folder}BatchNorm_{i}/mean", layer.norm.running_mean
        yield f"batch_stats/{folder}BatchNorm_{i}/var", layer.norm.running_var
    yield "params/Dense_0/kernel", net.head.weight
    yield "params/Dense_0/bias", net.head.bias
