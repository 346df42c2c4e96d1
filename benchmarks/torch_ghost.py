"""Per-example gradient norms in PyTorch from hooks, as fast as we can make them: the peer of `dj.grand`.

Hooks keep the input `a` of every layer and see the gradient `g` of its output. The weights themselves take no
part in the backward pass, so no weight gradient of the batch is computed:

- linear: `|a|² |g|²`, and `|g|²` for the bias;
- BatchNorm in eval mode: scale and bias get one number a channel, squared and summed;
- convolution: the gradient of one example is a product of patches of `a` with `g`. Four ways give its norm,
  and the fastest is found for every layer by trying them on the real shapes, but for those that a count of
  their multiply-adds rules out.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[nn.Conv2d, Tensor, Tensor], Tensor]
TRIES = 5
RULED_OUT = 3  # times the fewest multiply-adds


def conv_direct(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """Forms each example's weight gradient from its patches."""
    weight = torch.bmm(g.flatten(2), _patches(layer, a).transpose(1, 2))
    return _squares(weight)


def conv_gram(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """Multiplies the Gram matrices of patches and output gradients: cheap where the map is small."""
    patches, g = _patches(layer, a), g.flatten(2)
    return (torch.bmm(patches.transpose(1, 2), patches) * torch.bmm(g.transpose(1, 2), g)).sum((1, 2))


def conv_offset(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """Forms the weight gradient one kernel offset at a time: no patches, cheap on large maps."""
    (height, width), (down, right) = g.shape[2:], layer.stride
    a = F.pad(a, (layer.padding[1],) * 2 + (layer.padding[0],) * 2)
    g = g.flatten(2)
    total = g.new_zeros(len(g))
    for y in range(layer.kernel_size[0]):
        for x in range(layer.kernel_size[1]):
            seen = a[:, :, y : y + down * (height - 1) + 1 : down, x : x + right * (width - 1) + 1 : right]
            total += _squares(torch.bmm(g, seen.flatten(2).transpose(1, 2)))
    return total


def conv_grouped(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """Has the library compute all weight gradients as those of one convolution with a group an example."""
    count, outputs, inputs = len(a), g.shape[1], a.shape[1]
    weight = torch.nn.grad.conv2d_weight(
        a.reshape(1, count * inputs, *a.shape[2:]),
        (count * outputs, inputs, *layer.kernel_size),
        g.reshape(1, count * outputs, *g.shape[2:]),
        layer.stride,
        layer.padding,
        layer.dilation,
        count,
    )
    return _squares(weight.reshape(count, outputs, -1))


CONV_NORMS: dict[str, Norm] = {
    "direct": conv_direct,
    "gram": conv_gram,
    "offset": conv_offset,
    "grouped": conv_grouped,
}


class GhostNorm:
    """Gradient norms of each example's cross-entropy over all parameters.

    The network must be in eval mode, of Conv2d without bias, groups or dilation, BatchNorm2d and Linear on
    vectors, each used once in a forward pass.

    Args:
        net: the network; its parameters stop to require gradients.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net.requires_grad_(False)
        self.chosen: dict[str, str] = {}
        self._total: Tensor | None = None
        self._start: Tensor | None = None
        self._calls: list[str] = []
        for name, layer in net.named_modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_hook(partial(self._watch, name))

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the norms, float32 `[b]`."""
        self._total, self._start = images.new_zeros(len(images)), None
        self._calls.clear()
        losses = F.cross_entropy(self.net(images), labels, reduction="none")
        torch.autograd.grad(losses.sum(), self._start)
        if len(self._calls) != len(set(self._calls)):
            raise ValueError("a layer that is used twice needs the products of its uses joined")
        return self._total.clamp_min(0).sqrt()

    def _watch(self, name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        self._calls.append(name)
        if self._start is None:
            # Backward begins at the output of the first layer: nothing asks for the gradient of the images.
            self._start = output = output.requires_grad_()

        def hook(g: Tensor) -> None:
            with torch.no_grad():
                self._total += self._squares_of(name, layer, inputs[0].detach(), g)

        output.register_hook(hook)
        return output

    def _squares_of(self, name: str, layer: nn.Module, a: Tensor, g: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return g.square().sum(1) * (a.square().sum(1) + (layer.bias is not None))
        if isinstance(layer, nn.BatchNorm2d):
            bias = g.sum((2, 3))
            scale = ((a * g).sum((2, 3)) - layer.running_mean * bias) * (
                layer.running_var + layer.eps
            ).rsqrt()
            return (scale.square() + bias.square()).sum(1)
        if not isinstance(layer, nn.Conv2d) or layer.bias is not None or layer.groups != 1:
            raise ValueError(f"no norm for {name}: {layer}")
        if name not in self.chosen:
            self.chosen[name] = _fastest(layer, a, g)
        return CONV_NORMS[self.chosen[name]](layer, a, g)


def wait() -> None:
    """Waits until the GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _fastest(layer: nn.Conv2d, a: Tensor, g: Tensor) -> str:
    """Returns the name of the fastest way for a layer and these shapes."""
    places, outputs, inputs = g[0, 0].numel(), g.shape[1], layer.weight[0].numel()
    counts = dict.fromkeys(CONV_NORMS, places * outputs * inputs)
    counts["gram"] = places**2 * (outputs + inputs)
    tried = [name for name in CONV_NORMS if counts[name] <= RULED_OUT * min(counts.values())]
    return min(tried, key=lambda name: _seconds(CONV_NORMS[name], layer, a, g))


def _seconds(norm: Norm, layer: nn.Conv2d, a: Tensor, g: Tensor) -> float:
    times = []
    for _ in range(TRIES):
        wait()
        begin = time.perf_counter()
        norm(layer, a, g)
        wait()
        times.append(time.perf_counter() - begin)
    return min(times)


def _patches(layer: nn.Conv2d, a: Tensor) -> Tensor:
    """Returns `[b, inputs * kernel, places]`."""
    return F.unfold(a, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def _squares(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=(1, 2)).square()
