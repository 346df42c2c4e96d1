"""What GraNd costs on a GPU, counted without one: forms layer by layer, and programs compiled for an H100.

Command: python benchmarks/counts.py [--batch-size B] [--dtype bfloat16] [--json PATH] [--table PATH]
Floor:   the ordinary gradient of the mean loss of the same batch in the same (eval) mode.

Counts of the forms are the library's own. XLA's compiler for GPUs needs no GPU, only its plugin, in the
version of jax: `pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12`, best in an
environment of its own. It makes the kernels for an H100, but tries none out (no autotuning). Without the
plugin the programs are left out. Nothing is run, and no time is measured but the compiler's.
"""

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from unittest import mock

# The plugin asks for CUDA's libraries, which compiling does not take.
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")

import jax
import jax.numpy as jnp
import tyro
from forms import arguments, layers_of, planned
from grand import CLASSES, FLOOR, IMAGE_SHAPE, ways_of
from jax.experimental import topologies
from measure import PACKAGES, environment

import diet_jax as dj

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84942979072
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  device_vendor: "NVIDIA Corporation" name: "NVIDIA H100 80GB HBM3" device_address_bits: 64
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.2"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 2 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
# Take no time: names for what is there.
FREE = ("parameter", "get-tuple-element", "bitcast", "tuple", "constant", "after-all")


@dataclass(frozen=True)
class Options:
    """Multiply-adds, bytes, kernels and memory of GraNd on an H100, counted."""

    network: Literal["resnet18", "resnet50", "cnn", "small_cnn", "vgg16"] = "resnet18"
    """On 32x32 images with 10 classes."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    batch_size: int = 256
    """Examples of one call."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write the tables as Markdown."""


def by_layer(options: Options) -> list[dict[str, Any]]:
    """Returns a row for each shape of a convolution: its form on either backend and what that costs."""
    width = jnp.dtype(options.dtype).itemsize
    rows = []
    for layer, count in layers_of(options.network).items():
        args = jax.eval_shape(lambda layer=layer: arguments(layer, options.batch_size, options.dtype))
        kernel, images, upstream = (leaf.size for leaf in args)
        row: dict[str, Any] = {"layer": layer.label, "layers": count}
        for backend in ("cpu", "gpu"):
            with mock.patch.object(jax, "default_backend", return_value=backend):
                plan, _ = planned(layer, args)
            (gradient,) = plan.gradients
            form = gradient.form
            assert form is not None
            formed = sum(term.product.multiply_adds for term in gradient.terms)
            row["gradient"] = {
                "multiply_adds": options.batch_size * formed,
                "bytes": width * (images + upstream + kernel),
            }
            row[backend] = {
                "form": form.name,
                "multiply_adds": options.batch_size * form.multiply_adds,
                # Both factors read, and what lies between them and the norm written and read, in float32.
                "bytes": width * (images + upstream) + 8 * options.batch_size * form.elements,
            }
        rows.append(row)
    return rows


def layer_table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table, with sums over all layers."""
    lines = [
        "| layer | layers | weight gradient: GMAC | MB | CPU's form | GMAC | MB | GPU's form | GMAC | MB |",
        "|---|---:|---:|---:|---|---:|---:|---|---:|---:|",
    ]
    total: Counter[tuple[str, str]] = Counter()
    for row in rows:
        cells = [row["layer"], str(row["layers"])]
        for part in ("gradient", "cpu", "gpu"):
            numbers = row[part]
            cells += [numbers["form"]] if "form" in numbers else []
            for name, unit in (("multiply_adds", 1e-9), ("bytes", 1e-6)):
                cells.append(f"{unit * numbers[name]:.3g}")
                total[part, name] += row["layers"] * numbers[name]
        lines.append(f"| {' | '.join(cells)} |")
    cells = ["all", str(sum(row["layers"] for row in rows))]
    for part in ("gradient", "cpu", "gpu"):
        cells += [""] if part != "gradient" else []
        cells += [f"{1e-9 * total[part, 'multiply_adds']:.3g}", f"{1e-6 * total[part, 'bytes']:.0f}"]
    return [*lines, f"| {' | '.join(cells)} |"]


def plugin_is_there() -> bool:
    """Returns whether XLA's compiler for GPUs is installed."""
    return find_spec("jax_plugins") is not None and find_spec("jax_plugins.xla_cuda12") is not None


def for_h100(fn: Callable[..., Any], *args: Any) -> Any:
    """Compiles a function for an H100 that need not be there.

    Args:
        fn: a pure function of arrays.
        *args: trees of `jax.ShapeDtypeStruct`.
    """
    (device, *_) = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices
    there = jax.sharding.SingleDeviceSharding(device)
    args = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), args)
    lowered = jax.jit(fn).lower(*args)
    return lowered.compile(compiler_options={"xla_gpu_autotune_level": 0})


def counted(hlo: str) -> dict[str, Any]:
    """Counts a program's kernels, what they read and write, and the kinds of products among them.

    Args:
        hlo: the text of a compiled program.
    """
    bodies = {
        name: _anonymous(body)
        for name, body in re.findall(r"^%([\w.-]+) \(.*?\{\n(.*?)^\}", hlo, re.M | re.S)
    }
    shapes: dict[str, int] = {}
    kinds: dict[str, set[str]] = {"convolutions": set(), "matrix products": set()}
    kernels = moved = 0
    for line in hlo[hlo.index("\nENTRY ") :].splitlines()[2:]:
        match = re.match(r"\s+(?:ROOT )?%([\w.-]+) = (.*?) ([\w-]+)\((.*)$", line)
        if match is None:
            continue
        name, shape, operation, rest = match.groups()
        shapes[name] = _bytes(shape)
        if operation in FREE:
            continue
        kernels += 1
        moved += shapes[name] + sum(
            shapes.get(arg, 0) for arg in re.findall(r"%([\w.-]+)", rest.split("), ")[0])
        )
        if "__cudnn$conv" in line:
            kinds["convolutions"].add(_anonymous(line.split("=", 1)[1]))
        elif "__cublas$" in line:
            kinds["matrix products"].add(_anonymous(line.split("=", 1)[1]))
        elif (body := bodies.get(_called(line), "")) and " dot(" in body:
            kinds["matrix products"].add(body)
    return {"kernels": kernels, "bytes": moved, **{name: len(found) for name, found in kinds.items()}}


def _called(line: str) -> str:
    match = re.search(r"calls=%([\w.-]+)", line)
    return match.group(1) if match else ""


def _anonymous(text: str) -> str:
    names: dict[str, str] = {}
    text = re.sub(r", (metadata|backend_config)=\{.*", "", text)
    return re.sub(r"%([\w.-]+)", lambda found: names.setdefault(found.group(1), f"%{len(names)}"), text)


def _bytes(shape: str) -> int:
    found = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape)
    return sum(BYTES.get(kind, 0) * math.prod(int(d) for d in dims.split(",") if d) for kind, dims in found)


def programs(options: Options) -> list[dict[str, Any]]:
    """Returns a row for each way, compiled for an H100."""
    model = dj.create_model(options.network, num_classes=CLASSES, dtype=options.dtype)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGE_SHAPE))
    images = jax.ShapeDtypeStruct((options.batch_size, *IMAGE_SHAPE), jnp.float32)
    labels = jax.ShapeDtypeStruct((options.batch_size,), jnp.int32)
    rows = []
    for name, way in ways_of(model.predict).items():
        with mock.patch.object(jax, "default_backend", return_value="gpu"):
            begin = time.process_time()
            program = for_h100(way, variables, images, labels)
            seconds = time.process_time() - begin
        flops = jax.jit(way).lower(variables, images, labels).cost_analysis()["flops"]
        temporary = program.memory_analysis().temp_size_in_bytes
        row = {"way": name, "compile_s": seconds, "flops": flops, "temporary_bytes": temporary}
        rows.append({**row, **counted(program.as_text())})
    return rows


def program_table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = [
        "| program | kernels | GB read and written | Gflop | temporary MiB | kinds of convolutions | "
        "kinds of matrix products | compiler, processor seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        numbers = (
            f"{1e-9 * row['bytes']:.2f}",
            f"{1e-9 * row['flops']:.0f}",
            f"{row['temporary_bytes'] / 2**20:.0f}",
        )
        kinds = (row["convolutions"], row["matrix products"], f"{row['compile_s']:.1f}")
        lines.append(f"| {' | '.join(map(str, (row['way'], row['kernels'], *numbers, *kinds)))} |")
    return lines


def main(options: Options) -> None:
    what = f"{options.network}, batch {options.batch_size}, {options.dtype}. Counted, not measured"
    layers = by_layer(options)
    lines = [f"{what}. GMAC: 1e9 multiply-adds.", "", *layer_table(layers), ""]
    numbers: dict[str, Any] = {"environment": environment(PACKAGES), "layers": layers}
    if not plugin_is_there():
        print("Programs are left out: jax-cuda12-plugin is not installed.")
    else:
        numbers["programs"] = programs(options)
        lines += [f"{what}; floor: {FLOOR}.", "", *program_table(numbers["programs"]), ""]
    print("\n".join(lines))
    if options.table is not None:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text("\n".join(lines))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
