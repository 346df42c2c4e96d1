"""What can go wrong on a machine before anything of a run does: one function for each thing to look at."""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from diet_jax.data.cache import cache_folder
from diet_jax.data.stored import data_folder
from diet_jax.devices.free_memory import host_free_bytes
from diet_jax.experiments.environment import PACKAGES
from diet_jax.experiments.plan_table import bytes_text

# flax and jax of which `import flax.nnx` fails; only models of Flax NNX need it.
BAD_PAIRS = {("0.12.8", "0.11.1"), ("0.12.9", "0.11.2")}
# What optional things need, and the extra that brings it.
EXTRAS = {
    "grain": "stream",
    "tensorflow": "tensorflow",
    "tensorboardX": "tensorboard",
    "wandb": "wandb",
    "torch": "bench",
    "equinox": "test",
}
# Names and beginnings of names of what changes where data, programs and devices are found.
VARIABLES = ("DIET_JAX_", "JAX_", "XLA_", "TFDS_DATA_DIR", "CUDA_VISIBLE_DEVICES", "TPU_", "LIBTPU_")
VARIABLES += (
    "TF_CPP_",
    "TF_XLA_",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "NVIDIA_VISIBLE_DEVICES",
    "WANDB_MODE",
    "OMP_NUM_THREADS",
    "LD_LIBRARY_PATH",
)
# Room for the checkpoints of a small run.
LEAST_BYTES = 2**30
# A backend that waits for a device that another process has does not come back.
SECONDS = 120.0
# In a process of its own: XLA ends its process at a flag that it does not know, and at a broken driver.
DEVICES = """
import json, sys, time
import jax, numpy as np
devices = [
    {"platform": d.platform, "kind": d.device_kind, "memory": (d.memory_stats() or {}).get("bytes_limit")}
    for d in jax.devices()
]
x = np.arange(256 * 256, dtype=np.float32).reshape(256, 256) % 7
start = time.perf_counter()
program = jax.jit(lambda x: (x @ x.T).sum()).lower(x).compile()
compiled = time.perf_counter()
for _ in range(2):
    begun = time.perf_counter()
    found = float(program(x))
ran = time.perf_counter() - begun
error = abs(found / float((x.astype(np.float64) @ x.T.astype(np.float64)).sum()) - 1)
print(json.dumps({"devices": devices, "compile": compiled - start, "run": ran, "error": error}))
"""
NNX = "import flax.nnx"


class Finding(NamedTuple):
    """What one thing looks like."""

    what: str
    found: str
    state: str = "fine"
    """fine, note (works, but one should know) or wrong."""
    remedy: str = ""
    """What to do about it, where it is not fine."""
    values: Any = None
    """For programs, JSON values."""


def examine(data_dir: str | None) -> Iterator[Finding]:
    """Looks at everything; the processes that try things start first.

    Args:
        data_dir: folder of prepared datasets; by default TFDS's own.
    """
    devices, nnx = _start(DEVICES), _start(NNX)
    yield from versions()
    yield from extras()
    yield from memory()
    yield from folders()
    yield datasets(data_folder(data_dir))
    yield from caches(cache_folder())
    yield variables()
    yield flax_nnx(*_end(nnx))
    yield from computing(*_end(devices))


def versions() -> Iterator[Finding]:
    """Python, and every package that this one needs, against what it needs of them."""
    found = {name: _version(name) for name in ("diet_jax", "jaxlib", *PACKAGES)}
    yield Finding(
        "python", f"{platform.python_version()}, {sys.executable}", values=platform.python_version()
    )
    told = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    try:
        needs = metadata.requires("diet_jax") or []
    except metadata.PackageNotFoundError:
        needs = []
    wrong = [need for need in needs if not _is_met(need)]
    remedy = f"pip install {' '.join(repr(need.partition(';')[0].strip()) for need in wrong)}"
    yield Finding("packages", told, "wrong" if wrong else "fine", remedy if wrong else "", found)


def _is_met(text: str) -> bool:
    try:
        need = Requirement(text)
    except InvalidRequirement:
        return True
    if need.marker is not None and not need.marker.evaluate({"extra": ""}):
        return True
    version = _version(need.name)
    return version is not None and need.specifier.contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extras() -> Iterator[Finding]:
    """Which optional packages are there; nothing of them is imported."""
    found = {name: importlib.util.find_spec(name) is not None for name in EXTRAS}
    there = ", ".join(name for name, is_there in found.items() if is_there) or "none"
    absent = ", ".join(f"{name} ({EXTRAS[name]})" for name, is_there in found.items() if not is_there)
    told = f"{there}; not installed, with the extra that brings it: {absent}" if absent else there
    yield Finding("optional packages", told, values=found)


def memory() -> Iterator[Finding]:
    """Main memory, and room on the disks of the working folder and of the caches."""
    free = host_free_bytes()
    told = f"{bytes_text(free)} free, {os.cpu_count()} cores"
    low = free < LEAST_BYTES
    remedy = "close other programs, or lower --train.batch-size and train seeds one by one (--score.how loop)"
    yield Finding("main memory", told, "note" if low else "fine", remedy if low else "", free)
    for name, folder in (("disk here", Path.cwd()), ("disk of the caches", cache_folder())):
        try:
            left = shutil.disk_usage(_nearest(folder)).free
        except OSError as error:
            yield Finding(name, f"unknown: {error}", "note", "see whether the disk is mounted")
            continue
        low = left < LEAST_BYTES
        remedy = f"make room on the disk of {folder}, or choose another folder by --run-dir or DIET_JAX_CACHE"
        yield Finding(name, f"{bytes_text(left)} free", "wrong" if low else "fine", remedy * low, left)


def folders() -> Iterator[Finding]:
    """Whether the working folder and the cache folder can be written."""
    problem = _unwritable(Path.cwd())
    remedy = "work in a folder of your own, or give one by --run-dir"
    told = f"{Path.cwd()} can be written" if problem is None else f"{Path.cwd()}: {problem}"
    yield Finding("working folder", told, "fine" if problem is None else "wrong", remedy if problem else "")
    cache = cache_folder()
    problem = _unwritable(_nearest(cache))
    told = f"{cache} can be written" if problem is None else f"{cache}: {problem}"
    remedy = "set DIET_JAX_CACHE to a folder of your own; without one datasets are decoded at every start"
    yield Finding("cache folder", told, "fine" if problem is None else "note", remedy if problem else "")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    return next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path("/"))


def _unwritable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"diet_jax")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def datasets(folder: Path) -> Finding:
    """The prepared datasets in a folder, as TFDS names them."""
    found: list[str] = []
    try:
        for features in sorted([*folder.glob("*/*/features.json"), *folder.glob("*/*/*/features.json")]):
            found.append(features.parent.relative_to(folder).as_posix())
    except OSError as error:
        return Finding("prepared datasets", f"{folder}: {error}", "note", "give another folder by --data-dir")
    told = f"{', '.join(found)} in {folder}" if found else f"none in {folder}; diet-jax prepare writes them"
    return Finding("prepared datasets", told, values={"folder": str(folder), "datasets": found})


def caches(folder: Path) -> Iterator[Finding]:
    """Decoded copies of datasets, and compiled programs: where, how many, how large."""
    try:
        entries = [meta.parent for meta in sorted(folder.glob("*/meta.json"))]
    except OSError:
        entries = []
    programs = [path for path in _files(folder / "programs") if path.is_file()]
    for name, where, count, files in (
        ("decoded datasets", folder, len(entries), [file for entry in entries for file in _files(entry)]),
        ("compiled programs", folder / "programs", len(programs), programs),
    ):
        size = sum(_size(file) for file in files)
        told = f"{count}, {bytes_text(size)}, in {where}" if count else f"none yet in {where}"
        if name == "compiled programs":
            told += _other_cache()
        yield Finding(name, told, values={"folder": str(where), "count": count, "bytes": size})


def _other_cache() -> str:
    if os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in ("0", "false", "no", "off"):
        return "; switched off by JAX_ENABLE_COMPILATION_CACHE"
    other = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return f"; JAX's own cache is used instead, in {other}" if other else ""


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.rglob("*"))
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def variables() -> Finding:
    """What of the environment changes what is found here."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    told = ", ".join(f"{name}={value}" for name, value in found.items()) or "none of JAX, XLA and data is set"
    return Finding("environment", told, values=found)


def flax_nnx(code: int | None, _: str, complaint: str) -> Finding:
    """Whether flax.nnx can be imported, as it was tried."""
    pair = _version("flax"), _version("jax")
    if code == 0:
        return Finding("flax.nnx", "can be imported", values=True)
    known = f"; flax {pair[0]} and jax {pair[1]} are known not to fit" if pair in BAD_PAIRS else ""
    remedy = "only models of Flax NNX need it: for them install another version of flax or jax"
    return Finding("flax.nnx", f"cannot be imported: {complaint}{known}", "note", remedy, False)


def computing(code: int | None, said: str, complaint: str) -> Iterator[Finding]:
    """Devices, and a small program that was compiled and run, as they were tried."""
    asked = os.environ.get("JAX_PLATFORMS")
    if code != 0:
        causes = [name for name in ("JAX_PLATFORMS", "XLA_FLAGS", "LIBTPU_INIT_ARGS") if os.environ.get(name)]
        remedy = f"unset {' and '.join(causes)} and try again; " if causes else ""
        # What jax makes of a plugin that is not installed.
        if complaint == "AssertionError" and asked:
            complaint = f"no device of JAX_PLATFORMS={asked} is there, or its plugin is not installed"
        remedy += (
            "JAX_PLATFORMS=cpu does without accelerators; 'diet_jax[cuda]' or 'diet_jax[tpu]' brings theirs"
        )
        how = f"did not answer within {SECONDS:g} s" if code is None else f"exit code {code}"
        yield Finding("devices", f"jax fails ({how}): {complaint}", "wrong", remedy)
        return
    values = json.loads(said.splitlines()[-1])
    devices = values["devices"]
    kinds = {json.dumps(device): device for device in devices}
    told = ", ".join(
        f"{devices.count(device)} {device['platform']} ({device['kind']}"
        + (f", {bytes_text(device['memory'])})" if device["memory"] else ")")
        for device in kinds.values()
    )
    unused = _unused_accelerator() if {d["platform"] for d in devices} == {"cpu"} and not asked else None
    if unused is None:
        yield Finding("devices", told, values=devices)
    else:
        name, extra = unused
        remedy = f"pip install 'diet_jax[{extra}]'; or set JAX_PLATFORMS=cpu if that is meant"
        yield Finding("devices", f"{told}, but there is {name}", "wrong", remedy, devices)
    told = f"compiled in {1000 * values['compile']:.0f} ms, ran in {1000 * values['run']:.2f} ms"
    off = not values["error"] < 0.01
    remedy = "the device computes wrong numbers: try JAX_PLATFORMS=cpu, and another driver or version of jax"
    what = {name: values[name] for name in ("compile", "run", "error")}
    yield Finding("a small program", told, "wrong" if off else "fine", remedy * off, what)


def _unused_accelerator() -> tuple[str, str] | None:
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        return "an NVIDIA GPU", "cuda"
    if Path("/dev/accel0").exists():
        return "a TPU", "tpu"
    return None


def _start(code: str) -> subprocess.Popen[str]:
    # Beside each other; a run's own cache of programs has no part in it.
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _end(process: subprocess.Popen[str]) -> tuple[int | None, str, str]:
    """Exit code (None: it did not end), what it printed, and the last line of what it complained of."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, "", "no answer: another process may have the device"
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    # XLA ends with a stack trace of its own below what it says.
    said = [line for line in lines if "rror" in line or line.startswith("F0") or "Unknown flag" in line]
    return process.returncode, out, (said or lines or [""])[-1]
