"""Training steps in PyTorch, as they are usually written for speed; imported in a process without JAX."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_ghost import wait
from torch_network import ResNet18


def build(
    trainings: Mapping[str, tuple[int, bool, bool]], width: int, side: int, steps: int, device: str
) -> dict[str, Callable[[], Any]]:
    """Returns for each training a function that does some steps of the paper's SGD and waits for them.

    Weights and images have channels last. Every step sees the same normalised images, which are there before;
    nothing is drawn or augmented.

    Args:
        trainings: by name: the batch size; whether it computes in bfloat16 (autocast), else in float32 whose
            products round their factors (TF32); whether through `torch.compile`.
        width: filters of the first stage of ResNet18.
        side: of the images.
        steps: of a call.
        device: "cuda" or "cpu".
    """
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True

    @cache
    def step_of(name: str) -> Callable[[], None]:
        batch_size, bfloat16, compiled = trainings[name]
        net = ResNet18(width).to(device, memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        images = torch.randn(batch_size, 3, side, side, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(batch_size, device=device) % 10

        def loss_of(images: Tensor, labels: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                return F.cross_entropy(net(images), labels)

        loss = torch.compile(loss_of) if compiled else loss_of

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss(images, labels).backward()
            optimizer.step()

        return step

    def train(name: str) -> None:
        step = step_of(name)
        for _ in range(steps):
            step()
        wait()

    return {name: partial(train, name) for name in trainings}
