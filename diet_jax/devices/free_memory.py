"""How much memory is free: the one thing of a plan that is asked of the machine."""

from pathlib import Path

import jax

# A machine that does not say what is free, such as a Mac, is taken to have this much.
UNKNOWN = 2**33
# The allocator's gaps and what else the process does need room as well.
SHARE_TO_PLAN_WITH = 0.9


def free_bytes() -> int:
    """Returns the bytes that a program may take on each device, of those that are free now.

    On accelerators what the allocator may still hand out, on the fullest of this process's devices; on CPUs
    the memory that the system, the container and the process's own limits leave, shared by the devices of
    the current mesh. Processes that share a mesh agree on the least.

    Example:
        >>> free_bytes() > 0
        True
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    mesh = jax.sharding.get_abstract_mesh()
    if all(stats):
        free = min(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)
    else:
        free = host_free_bytes() // (1 if mesh.empty else min(mesh.size, jax.local_device_count()))
    # What process 0 does alone, under a mesh of its own devices, is not for the others to agree on.
    if not mesh.empty and jax.sharding.get_mesh().is_multi_process:
        import numpy as np
        from jax.experimental import multihost_utils

        # In MiB: collectives work with 32 bits.
        free = int(multihost_utils.process_allgather(np.int32(free // 2**20)).min()) * 2**20
    return max(free, 0)


def memory_to_plan_with() -> int:
    """Returns the bytes that a program may take on each device, with some left over."""
    return int(SHARE_TO_PLAN_WITH * free_bytes())


def host_free_bytes() -> int:
    """Returns the bytes of main memory that this process may still take."""
    limits = [_available(), *_left_in_container(), *_left_to_process()]
    return min((left for left in limits if left is not None), default=UNKNOWN)


def _available() -> int | None:
    return _fields(Path("/proc/meminfo")).get("MemAvailable")


def _left_in_container() -> list[int]:
    left = []
    for limit, used, folder in (
        ("memory.max", "memory.current", Path("/sys/fs/cgroup")),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", Path("/sys/fs/cgroup/memory")),
    ):
        try:
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # File contents that were read lately count as used, and are given back when memory is short.
            reclaimable = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
            used_now = int((folder / used).read_text()) - reclaimable
            left.append(int((folder / limit).read_text()) - max(used_now, 0))
        except (OSError, ValueError):
            continue  # No container, or one without a limit ("max").
    return left


def _left_to_process() -> list[int]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    used = _fields(Path("/proc/self/status"))
    limits = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))
    return [
        resource.getrlimit(kind)[0] - used[name]
        for kind, name in limits
        if name in used and resource.getrlimit(kind)[0] != resource.RLIM_INFINITY
    ]


def _fields(path: Path) -> dict[str, int]:
    """Bytes by name in a file of lines such as `MemAvailable:  123 kB`."""
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text().splitlines())
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in lines if len(w) == 3 and w[2] == "kB"}
