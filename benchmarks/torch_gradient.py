"""One gradient of a training step in PyTorch; imported in a process without JAX."""

import os
from collections.abc import Callable

TIMED = ("PyTorch", "PyTorch, channels last")


def build(batch_size: int, width: int) -> dict[str, Callable[[], None]]:
    """Returns the gradient of resnet18's loss in train mode, in each memory layout, by name of `TIMED`.

    Args:
        batch_size: random 32x32x3 images.
        width: filters of the first stage.
    """
    import torch
    import torch.nn.functional as F
    from torch_network import ResNet18

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores or 1)

    def gradient(layout: torch.memory_format) -> Callable[[], None]:
        net = ResNet18(width).to(memory_format=layout).train()
        x = torch.randn(batch_size, 3, 32, 32).to(memory_format=layout)
        y = torch.arange(batch_size) % 10

        def call() -> None:
            torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))

        return call

    layouts = (torch.contiguous_format, torch.channels_last)
    return dict(zip(TIMED, map(gradient, layouts), strict=True))
