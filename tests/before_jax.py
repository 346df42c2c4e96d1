"""What must be set before JAX is imported: imported first of all by conftest.py."""

import importlib.util
import mmap
import os
from pathlib import Path


def quick_to_compile() -> str:
    """Flags of XLA, for compiling is most of the time here.

    LLVM may leave the machine code as it is, and it is written by XLA's older writers of loops, which are
    twice as quick. XLA's own passes still run. XLA_FLAGS="" runs the tests with the compiler as it comes.
    """
    flags = ["--xla_backend_optimization_level=0"]
    # XLA ends the process at a flag that it does not know, and this one will go some day.
    for library in Path(importlib.util.find_spec("jaxlib").origin).parent.glob("libjax_common.*"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"xla_cpu_use_fusion_emitters") >= 0:
                flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)


# No setting of whoever starts the tests changes a number or finds other data. Children inherit what is left.
for name in [name for name in os.environ if name.startswith(("JAX_", "DIET_JAX_CACHE", "TFDS_DATA_DIR"))]:
    if not name.startswith(("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_")):
        del os.environ[name]
# The command would keep the tests' programs for itself, and change this process. Its own tests switch it on.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", quick_to_compile())
