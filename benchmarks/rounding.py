"""What rounded products do to GraNd: TF32 and bfloat16 in the network, in the norms, and in both.

Command: python benchmarks/rounding.py [--fashion-mnist-data-dir DIR] [--json PATH] [--table PATH]
Floor:   GraNd in float64, by vmap(grad).

No accelerator is needed. A product whose factors are rounded to 10 bits and which is summed in float32 is
what TF32 is on a GPU, but for the order of the sum; with 7 bits it is what a TPU makes of float32 by default.
The forms are those that the library chooses on a GPU. What is compared is not time, so the tables do not need
a quiet machine. With a folder that holds Fashion-MNIST, a narrow ResNet18 is trained on 2,000 of its images.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from measure import environment
from precision import Case, norms, own_cross_entropy, train
from rich.console import Console
from rich.markdown import Markdown
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.per_example.jaxprs import Environment, flattened

CASES = (Case("small_cnn", 10, 0.05, 1024), Case("small_cnn", 60, 0.05, 1024))
RESNETS = tuple(
    Case("resnet18", epochs, 0.05, 1024, 5e-4, dataset="fashion_mnist", examples=2000, width=16)
    for epochs in (4, 20)
)


@dataclass(frozen=True)
class Options:
    """Errors and rank correlations of GraNd in rounded arithmetic, on trained networks."""

    fashion_mnist_data_dir: str | None = None
    """Folder of a prepared Fashion-MNIST, for ResNet18 of width 16."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write the tables as Markdown."""


class Setting(NamedTuple):
    """One arithmetic."""

    network: str
    norms: str
    dtype: Any
    """Of the network."""
    network_bits: int | None
    """To which factors of the network's products are rounded; None leaves them alone."""
    norm_bits: int | None
    """The same for products of the norms."""


SETTINGS = (
    Setting("float32", "float32", jnp.float32, None, None),
    Setting("float32", "TF32", jnp.float32, None, 10),
    Setting("TF32", "float32", jnp.float32, 10, None),
    Setting("TF32", "TF32", jnp.float32, 10, 10),
    Setting("float32", "bfloat16 passes", jnp.float32, None, 7),
    Setting("bfloat16 passes", "float32", jnp.float32, 7, None),
    Setting("bfloat16 passes", "bfloat16 passes", jnp.float32, 7, 7),
    Setting("bfloat16", "bfloat16", jnp.bfloat16, None, None),
)


def rounded(fn: Callable[..., Any], network_bits: int | None, norm_bits: int | None) -> Callable[..., Any]:
    """Returns a function whose matrix products and convolutions take factors with fewer bits.

    Args:
        fn: any function of arrays, such as `dj.grand` in precision "highest": then the products of the norms
            ask for the highest precision, and those of the network do not.
        network_bits: of the mantissa, in products that leave the precision to the backend.
        norm_bits: in products that ask for the highest.
    """
    bits = {None: network_bits, (lax.Precision.HIGHEST,) * 2: norm_bits}

    def run(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        flat = flattened(closed, [True] * len(closed.jaxpr.invars))
        env = Environment(flat, jax.tree.leaves(args))
        for equation in flat.jaxpr.eqns:
            is_product = equation.primitive.name in ("dot_general", "conv_general_dilated")
            kept = bits[equation.params["precision"]] if is_product else None
            if kept is None:
                env.run([equation])
                continue
            factors = [lax.reduce_precision(env.read(atom), 8, kept) for atom in equation.invars]
            env.write(equation.outvars, [equation.primitive.bind(*factors, **equation.params)])
        return jax.tree.unflatten(jax.tree.structure(shape), [env.read(atom) for atom in flat.jaxpr.outvars])

    return run


def scores(network: tuple[Any, Any, Any, Any], setting: Setting) -> np.ndarray:
    """Returns GraNd `[n]` in an arithmetic, in the forms of a GPU."""
    module, variables, images, labels = network
    own = module.clone(dtype=setting.dtype)
    params, state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)

    def predict(variables: dj.Variables, images: jax.Array) -> jax.Array:
        logits = own.apply({"params": variables.params, **variables.model_state}, images, train=False)
        return logits.astype(jnp.float32)

    def grand(variables: dj.Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        return dj.grand(predict, variables, images, labels, precision="highest")

    fn, step = jax.jit(rounded(grand, setting.network_bits, setting.norm_bits)), 64
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        parts = [
            fn(
                dj.Variables(params, state),
                jnp.asarray(images[i : i + step], jnp.float32),
                jnp.asarray(labels[i : i + step], jnp.int32),
            )
            for i in range(0, len(images), step)
        ]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def compared(found: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Returns errors and rank correlations, of all examples and of the tenth with the smallest norms."""
    lowest = exact <= np.quantile(exact, 0.1)
    error = np.abs(found - exact) / exact
    half = len(exact) // 2
    kept, expected = (set(np.argsort(-values, kind="stable")[:half]) for values in (found, exact))

    def ranks(rows: Any) -> float:
        return float(np.asarray(spearmanr(found[rows], exact[rows]))[0])

    return {
        "median": float(np.median(error)),
        "largest": float(error.max()),
        "median_lowest": float(np.median(error[lowest])),
        "largest_lowest": float(error[lowest].max()),
        "ranks": ranks(slice(None)),
        "ranks_lowest": ranks(lowest),
        "changed": len(expected - kept) / half,
    }


def study(case: Case, network: tuple[Any, Any, Any, Any]) -> list[dict[str, Any]]:
    """Returns a row for each arithmetic, and one for what rounding the norms adds to each rounded network."""
    exact = norms(*network, jnp.float64, own_cross_entropy, "vmap")
    about = {"network": case.name, "epochs": case.epochs, "smallest": exact.min(), "norm": np.median(exact)}
    found, rows = {}, []
    for setting in SETTINGS:
        print(f"{case.name}, {case.epochs} epochs: {setting.network}, norms {setting.norms}", flush=True)
        found[setting.network, setting.norms] = scores(network, setting)
        row = compared(found[setting.network, setting.norms], exact)
        rows.append({**about, "computes": setting.network, "norms": setting.norms, "to": "float64", **row})
    for kind in ("TF32", "bfloat16 passes"):
        reference = found[kind, "float32"]
        row = compared(found[kind, kind], reference)
        rows.append({**about, "computes": kind, "norms": kind, "to": "its norms in float32", **row})
    return rows


def markdown(case: Case, rows: list[dict[str, Any]]) -> str:
    """Returns the table of one network."""
    first = rows[0]
    width = f" of width {case.width}" if case.width else ""
    lines = [
        f"**{case.name}{width}, {case.dataset}, {case.epochs} epochs.** {case.rows:,} examples; "
        f"norms from {first['smallest']:.1e}, median {first['norm']:.1e}.",
        "",
        "| network | norms | against | median error | largest | lowest decile: median | largest | ranks | "
        "ranks, lowest decile | kept half that differs |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        errors = (row[key] for key in ("median", "largest", "median_lowest", "largest_lowest"))
        cells = [row["computes"], row["norms"], row["to"], *(f"{error:.1e}" for error in errors)]
        cells += [f"{row['ranks']:.6f}", f"{row['ranks_lowest']:.5f}", f"{row['changed']:.2%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(options: Options) -> None:
    folder = options.fashion_mnist_data_dir
    cases = [*CASES, *(RESNETS if folder else ())]
    networks = [train(case, folder if case in RESNETS else None) for case in cases]
    # The training above is in float32; from here on arrays keep the dtype that they are given.
    jax.config.update("jax_enable_x64", True)
    rows, tables = [], []
    for case, network in zip(cases, networks, strict=True):
        rows += (own := study(case, network))
        tables.append(markdown(case, own))
        jax.clear_caches()
    Console(width=170).print(Markdown("\n".join(tables)))
    if options.table is not None:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text("\n".join(tables))
    if options.json is not None:
        machine = environment(("diet_jax", "jax", "jaxlib", "flax", "numpy"))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"environment": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
