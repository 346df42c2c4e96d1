"""What PyTorch computes in the comparison with it; imported in a process without JAX."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_ghost import GhostNorm, wait
from torch_network import resnet18

ORDINARY = "torch: ordinary gradient"
VMAP = "torch: torch.func vmap(grad)"
GHOST = "torch: ghost norm"
TIMED = (ORDINARY, VMAP, GHOST)


def build(
    weights: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    width: int,
    channels_last: bool,
    device: str = "cpu",
) -> dict[str, Callable[[], Any]]:
    """Returns the functions to time, by name.

    Args:
        weights: of the JAX network, by path.
        images: float32 `[b h w 3]`.
        labels: int `[b]`.
        width: filters of the first stage.
        channels_last: the memory layout of images and weights.
        device: "cpu" or "cuda", where float32 products round their factors as JAX's do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores or 1)
    torch.set_float32_matmul_precision("high")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = resnet18(weights, width).to(device, memory_format=layout)
    ghost = GhostNorm(resnet18(weights, width).to(device, memory_format=layout))
    x = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2))).to(device).contiguous(memory_format=layout)
    y = torch.from_numpy(labels.astype(np.int64)).to(device)
    leaves = dict(net.named_parameters())
    params = {name: leaf.detach() for name, leaf in leaves.items()}
    buffers = dict(net.named_buffers())

    def ordinary() -> None:
        torch.autograd.grad(F.cross_entropy(net(x), y), list(leaves.values()))
        wait()

    def loss(params: Mapping[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(
            torch.func.functional_call(net, (params, buffers), (image[None],)), label[None]
        )

    def vmap() -> np.ndarray:
        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(params, x, y)
        # Of each row of a weight first: a norm of millions of numbers at once would lose four digits.
        rows = [leaf.flatten(2) if leaf.ndim > 2 else leaf[:, :, None] for leaf in gradients.values()]
        norms = torch.cat([torch.linalg.vector_norm(row, dim=2) for row in rows], dim=1)
        return torch.linalg.vector_norm(norms, dim=1).cpu().numpy()

    return {
        ORDINARY: ordinary,
        VMAP: vmap,
        GHOST: lambda: ghost(x, y).cpu().numpy(),
        "layers": lambda: {name.removesuffix(".conv"): ghost.chosen[name] for name in sorted(ghost.chosen)},
        "threads": torch.get_num_threads,
    }
