"""How many digits GraNd keeps in float32: trained networks, whose gradients are small and cancel.

Command: python benchmarks/precision.py [--json PATH] [--resnet18-data-dir DIR]
Floor:   GraNd in float64, by vmap(grad).

Each network is trained until it is nearly certain of most examples. What is compared is not time, so the
table does not need a quiet machine. With a folder that holds CIFAR-10, ResNet18 is trained on 800 of its
images too (about 20 minutes on two cores).
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from measure import environment
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.data.dataset import first_examples

Loss = Callable[[Any, Any], Any]


class Transformer(nn.Module):
    """Patches, three blocks of attention and an MLP: every kernel in the gram form."""

    width: int = 48
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Any, *, train: bool = False) -> Any:
        """Returns logits `[b 10]`."""
        del train
        kind: Any = {"dtype": self.dtype}
        h = nn.Conv(self.width, (2, 2), (2, 2), **kind)(images).reshape(len(images), -1, self.width)
        place = self.param("place", nn.initializers.normal(0.02), (1, h.shape[1], self.width))
        h = h + place.astype(self.dtype)
        for _ in range(3):
            h = h + nn.MultiHeadDotProductAttention(4, **kind)(nn.LayerNorm(**kind)(h))
            inner = nn.gelu(nn.Dense(4 * self.width, **kind)(nn.LayerNorm(**kind)(h)))
            h = h + nn.Dense(self.width, **kind)(inner)
        return nn.Dense(10, **kind)(nn.LayerNorm(**kind)(h).mean(1))


@dataclass(frozen=True)
class Case:
    """A network and how it is trained to fit."""

    name: str
    epochs: int
    learning_rate: float
    rows: int
    """Examples that are compared, the first ones."""
    weight_decay: float = 0.0
    dataset: str = "digits"
    examples: int | None = None
    """That it is trained on, the first ones; all if None."""
    width: int | None = None
    """Of a ResNet; None takes the paper's."""


CASES = (
    Case("mlp", 200, 0.1, 1024),
    Case("small_cnn", 60, 0.05, 1024),
    Case("transformer", 80, 0.02, 1024),
)
RESNET = Case("resnet18", 24, 0.05, 256, weight_decay=5e-4, dataset="cifar10", examples=800)


@dataclass(frozen=True)
class Options:
    """Relative differences and rank correlations of GraNd in float32, on trained networks."""

    json: Path | None = None
    """Where to write the numbers."""
    resnet18_data_dir: str | None = None
    """Folder of a prepared CIFAR-10, for ResNet18."""


def plain_cross_entropy(logits: Any, label: Any) -> Any:
    """The textbook loss, whose gradient has `p − 1` in it."""
    return -jax.nn.log_softmax(logits)[label]


def own_cross_entropy(logits: Any, label: Any) -> Any:
    """The library's loss of one example."""
    return dj.cross_entropy(logits[None], label[None])[0]


def train(case: Case, data_dir: str | None = None) -> tuple[Any, Any, Any, Any]:
    """Returns a trained network's module and variables, and normalised images and labels."""
    data = dj.load_dataset(case.dataset, data_dir=data_dir).train
    data = data if case.examples is None else first_examples(data, case.examples)
    width: Any = {} if case.width is None else {"width": case.width}
    model: Any = (
        dj.from_linen(Transformer())
        if case.name == "transformer"
        else dj.create_model(case.name, num_classes=10, **width)
    )
    config = dj.TrainConfig(
        epochs=case.epochs,
        batch_size=32,
        learning_rate=case.learning_rate,
        schedule="cosine",
        augment="none",
        weight_decay=case.weight_decay,
    )
    state, history = dj.train(jax.random.key(0), model, data, config=config)
    mean, std = (np.asarray(value, np.float64) for value in data.normalization)
    images = ((data.images - mean) / std)[: case.rows]
    print(f"{case.name}: mean loss of the last 25 batches {history.loss[-25:].mean():.2g}", flush=True)
    return model.module, jax.tree.map(np.asarray, state.variables), images, data.labels[: case.rows]


def norms(module: Any, variables: Any, images: Any, labels: Any, kind: Any, loss: Any, how: str) -> Any:
    """Returns GraNd `[n]` in a dtype, with a loss, by the library or by vmap(grad)."""
    own = module.clone(dtype=kind)
    params, state = jax.tree.map(lambda leaf: jnp.asarray(leaf, kind), variables)

    # The library's own adapter would turn logits into float32.
    takes_mode = "train" in inspect.signature(type(own).__call__).parameters
    mode = {"train": False} if takes_mode else {}

    def of_one(params: Any, image: Any, label: Any) -> Any:
        return loss(own.apply({"params": params, **state}, image[None], **mode)[0], label)

    def by_grand(params: Any, images: Any, labels: Any) -> Any:
        if loss is not own_cross_entropy:
            return dj.per_example_grad_norms(of_one)(params, images, labels)

        def predict(variables: Any, images: Any) -> Any:
            return own.apply({"params": variables.params, **state}, images, **mode)

        return dj.grand(predict, dj.Variables(params, state), images, labels)

    def by_vmap(params: Any, images: Any, labels: Any) -> Any:
        gradients = jax.vmap(jax.grad(of_one), (None, 0, 0))(params, images, labels)
        squares = [jnp.sum(leaf.reshape(len(images), -1) ** 2, 1) for leaf in jax.tree.leaves(gradients)]
        return jnp.sqrt(sum(squares))

    fn = jax.jit(by_vmap if how == "vmap" else by_grand)
    step = 32
    parts = [
        fn(params, jnp.asarray(images[i : i + step], kind), jnp.asarray(labels[i : i + step], jnp.int32))
        for i in range(0, len(images), step)
    ]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def compare(case: Case, network: tuple[Any, Any, Any, Any]) -> list[dict[str, Any]]:
    """Returns a row for each way."""
    exact = norms(*network, jnp.float64, own_cross_entropy, "vmap")
    lowest = exact <= np.quantile(exact, 0.1)
    rows = []
    for loss in (own_cross_entropy, plain_cross_entropy):
        reference = norms(*network, jnp.float32, loss, "vmap")
        for how in ("grand", "vmap"):
            found = norms(*network, jnp.float32, loss, how) if how == "grand" else reference
            # Where the reference underflows to zero there is nothing to compare with.
            to_reference = np.abs(found - reference) / np.where(reference > 0, reference, np.inf)
            error = np.abs(found - exact) / exact
            rows.append(
                {
                    "network": case.name,
                    "loss": "ours" if loss is own_cross_entropy else "-log_softmax",
                    "how": how,
                    "smallest_norm": exact.min(),
                    "median_norm": float(np.median(exact)),
                    "to_vmap": to_reference.max(),
                    "to_vmap_lowest_decile": to_reference[lowest].max(),
                    "to_float64_lowest_decile": error[lowest].max(),
                    "rank_correlation_lowest_decile": float(
                        np.asarray(spearmanr(found[lowest], exact[lowest]))[0]
                    ),
                }
            )
    return rows


def main(options: Options) -> None:
    cases = [*CASES, RESNET] if options.resnet18_data_dir else list(CASES)
    networks = [train(case, options.resnet18_data_dir if case is RESNET else None) for case in cases]
    # The training above is in float32; from here on arrays keep the dtype that they are given.
    jax.config.update("jax_enable_x64", True)
    rows = [row for case, network in zip(cases, networks, strict=True) for row in compare(case, network)]
    table = Table(title="GraNd in float32 on trained networks", title_justify="left")
    for name in ("network", "loss", "way", "norms, smallest / median"):
        table.add_column(name)
    for name in ("to float32 vmap(grad)", "... lowest decile", "to float64, lowest decile", "ranks there"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["network"],
            row["loss"],
            row["how"],
            f"{row['smallest_norm']:.1e} / {row['median_norm']:.1e}",
            f"{row['to_vmap']:.1e}",
            f"{row['to_vmap_lowest_decile']:.1e}",
            f"{row['to_float64_lowest_decile']:.1e}",
            f"{row['rank_correlation_lowest_decile']:.6f}",
        )
    Console(width=150).print(table)
    if options.json is not None:
        machine = environment(("diet_jax", "jax", "jaxlib", "flax", "numpy"))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"environment": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
