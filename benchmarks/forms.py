"""Every form of a convolution's gradient norm, layer by layer, against the ordinary weight gradient.

Command: python benchmarks/forms.py [--batch-size B] [--rounds N] [--json PATH] [--table PATH] [--figure PATH]
Floor:   the weight gradient of that layer, summed over the batch, as in a training step.

Layers of one shape are measured once. The forms are those that the library offers for the traced layer. At
the end it says what the times make of the library's costs (`COSTS` in diet_jax/per_example/method.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from calibration import COUNTS, calibrated, calibration
from flax import linen as nn
from forms_figure import FLOOR, VMAP, draw, markdown
from grand import CLASSES, IMAGE_SHAPE
from jax import lax
from measure import PACKAGES, environment, interleaved, report, rows, seconds_per_call
from programs import compiled

import diet_jax as dj
from diet_jax.per_example.method import choose_method
from diet_jax.per_example.norms import Selection, plan_gradients
from diet_jax.per_example.plan import ProgramPlan
from diet_jax.per_example.products import Form
from diet_jax.per_example.run import run_program
from diet_jax.plotting.style import save_figure


class Layer(NamedTuple):
    """A convolution without bias, 'SAME' padding."""

    side: int
    """Of the square input."""
    inputs: int
    """Input channels."""
    outputs: int
    """Output channels."""
    kernel: int
    stride: int

    @property
    def label(self) -> str:
        """Such as `3×3, 64 → 128, 32×32 / 2`."""
        by = f" / {self.stride}" if self.stride > 1 else ""
        kernel, side = f"{self.kernel}×{self.kernel}", f"{self.side}×{self.side}"
        return f"{kernel}, {self.inputs} → {self.outputs}, {side}{by}"

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """(height, width, in, out)."""
        return (self.kernel, self.kernel, self.inputs, self.outputs)

    def apply(self, kernel: jax.Array, images: jax.Array) -> jax.Array:
        """The layer, on float [b side side inputs]."""
        return lax.conv_general_dilated(
            images, kernel, (self.stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


@dataclass(frozen=True)
class Options:
    """Time of each form of a convolution's gradient norm, for every layer shape of a network."""

    network: Literal["resnet18", "resnet50", "vgg16", "cnn", "small_cnn"] = "resnet18"
    """On 32x32 images."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of images, kernels and upstream gradients."""
    batch_size: int = 32
    """Examples of one call; accelerators want more."""
    rounds: int = 5
    """Timings of each after the first; a timing is the mean of the calls in 0.2 s."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write the table as Markdown."""
    figure: Path | None = None
    """Where to write the figure."""


def layers_of(network: str) -> dict[Layer, int]:
    """Returns the shapes of a network's convolutions, in the order in which they run, and their numbers."""
    model = dj.create_model(network, num_classes=CLASSES)
    found: list[Layer] = []

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, nn.Conv) and context.method_name == "__call__":
            side, inputs = args[0].shape[-2:]
            stride = 1 if module.strides is None else np.broadcast_to(module.strides, 2)[0]
            layer = Layer(side, inputs, module.features, module.kernel_size[0], int(stride))
            result = call(*args, **kwargs)
            expected = (*args[0].shape[:-3], -(-side // stride), -(-side // stride), module.features)
            assert result.shape == expected, f"not a plain convolution: {module}"
            found.append(layer)
            return result
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda key: model.init(key, IMAGE_SHAPE), jax.random.key(0))
    return dict(Counter(found))


def one_loss(layer: Layer) -> Callable[..., jax.Array]:
    """Returns a loss of one example whose gradient in the layer's output is `upstream`."""

    def loss(kernel: jax.Array, image: jax.Array, upstream: jax.Array) -> jax.Array:
        return jnp.sum(layer.apply(kernel, image[None])[0] * upstream)

    return loss


def arguments(layer: Layer, batch_size: int, dtype: str = "float32") -> tuple[jax.Array, ...]:
    """Returns a kernel, and random inputs and upstream gradients of a batch."""
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[0], layer.kernel_shape, dtype)
    images = jax.random.normal(keys[1], (batch_size, layer.side, layer.side, layer.inputs), dtype)
    outputs = jax.eval_shape(layer.apply, kernel, images)
    return kernel, images, jax.random.normal(keys[2], outputs.shape, dtype)


def ordinary_gradient(layer: Layer, kernel: Any, images: Any, upstream: Any) -> jax.Array:
    """The weight gradient, summed over the batch."""
    return jax.grad(lambda kernel: jnp.sum(layer.apply(kernel, images) * upstream))(kernel)


def vmapped_norms(layer: Layer, kernel: Any, images: Any, upstream: Any) -> jax.Array:
    """The norms of the weight gradients of every example, all of them formed."""
    gradients = jax.vmap(jax.grad(one_loss(layer)), in_axes=(None, 0, 0))(kernel, images, upstream)
    return jnp.sqrt(jnp.sum(jnp.square(gradients.astype(jnp.float32)), axis=(1, 2, 3, 4)))


def form_norms(plan: ProgramPlan, form: Form, kernel: Any, images: Any, upstream: Any) -> jax.Array:
    """The norms of the weight gradients of every example in one form."""
    changed = replace(plan, gradients=(replace(plan.gradients[0], form=form),))

    def square(image: jax.Array, upstream: jax.Array) -> jax.Array:
        return run_program(changed, [kernel, image, upstream])[1][0]

    return jnp.sqrt(jax.vmap(square)(images, upstream))


def planned(layer: Layer, args: Sequence[jax.Array]) -> tuple[ProgramPlan, list[Form]]:
    """Returns the library's plan for the layer, and all forms that it chose from."""
    kernel, *batch = args
    plan, _ = plan_gradients(one_loss(layer), Selection(kernel, None), batch, choose_method())
    (term,) = plan.gradients[0].terms
    return plan, term.product.forms([])


def measured(
    layer: Layer, count: int, batch_size: int, rounds: int, *, dtype: str = "float32", rtol: float = 1e-4
) -> list[dict[str, Any]]:
    """Times every way of one layer, after a check that all norms are equal within `rtol`; a row for each."""
    args = arguments(layer, batch_size, dtype)
    plan, forms = planned(layer, args)
    ways = {FLOOR: partial(ordinary_gradient, layer), VMAP: partial(vmapped_norms, layer)}
    ways |= {form.name: partial(form_norms, plan, form) for form in forms}
    programs = {name: compiled(way, *args) for name, way in ways.items()}
    exact = programs[VMAP](*args)
    for form in forms:
        np.testing.assert_allclose(programs[form.name](*args), exact, rtol=rtol, err_msg=form.name)

    calls = {name: partial(program, *args) for name, program in programs.items()}
    table = rows(layer.label, interleaved(calls, rounds, timer=seconds_per_call), FLOOR)
    by_name, costs = {form.name: form for form in forms}, choose_method().costs
    chosen = plan.gradients[0].form
    for row in table:
        row["layers"], row["layer"] = count, layer._asdict()
        row["temporary_mib"] = programs[row["variant"]].temporary_bytes / 2**20
        row["chosen"] = chosen is not None and row["variant"] == chosen.name
        row["chosen_mark"] = "chosen" if row["chosen"] else ""
        form = by_name.get(row["variant"])
        if form is not None:
            row["counts"] = {name: batch_size * getattr(form, name) for name in COUNTS[:-1]}
            row["counts"]["products"] = form.products
            row["examples"] = batch_size
            least = min(other.cost(costs) for other in forms)
            row["counted"] = form.cost(costs) / least
    return table


def tables(options: Options) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of one layer after the other."""
    # Elsewhere the gradients' own products may be rounded, and in another way than those of the norms.
    rtol = 1e-4 if options.dtype == "float32" and jax.default_backend() == "cpu" else 2e-2
    for layer, count in layers_of(options.network).items():
        table = measured(layer, count, options.batch_size, options.rounds, dtype=options.dtype, rtol=rtol)
        yield table
        jax.clear_caches()


def main(options: Options) -> None:
    table = [row for rows in tables(options) for row in rows]
    report(
        "Each form of a convolution's gradient norm",
        table,
        unit="ms",
        path=options.json,
        first_call=False,
        columns={
            "temporary_mib": ("temporary MiB", ".0f"),
            "counted": ("counted cost / least", ".1f"),
            "chosen_mark": ("", ""),
        },
        notes=[f"The library's costs: {choose_method().costs}.", calibration(table)],
        extra={
            "options": {name: getattr(options, name) for name in ("network", "dtype", "batch_size")},
            "seconds": calibrated(table)[0],
        },
    )
    machine = environment(PACKAGES)
    note = (
        f"Batch {options.batch_size}, {options.dtype}, {machine['cores']} cores of {machine['cpu']}, "
        f"device {machine['device']}, jax {machine['packages']['jax']}, {machine['date']}. Medians of "
        f"{options.rounds} interleaved rounds, load average {machine['load_1min']} at the end. "
        "Layers: kernel, channels, input size / stride."
    )
    if options.table is not None:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text(markdown(table, note))
    if options.figure is not None:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        note = f"{note} Bars from lowest to highest."
        save_figure(draw(table, options.network, note), options.figure)


if __name__ == "__main__":
    # Imported here: the layers are measured on machines without it.
    import tyro

    main(tyro.cli(Options))
