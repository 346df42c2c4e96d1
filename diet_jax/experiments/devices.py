"""The mesh of a run: how the config, or the default, lets the devices share the work."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from diet_jax.devices.mesh import make_mesh
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig


@contextmanager
def config_mesh(config: RunConfig, *, one_by_one: bool = False) -> Iterator[None]:
    """Sets the mesh of a config's run as JAX's own; none where the config names none and there is one device.

    By default every device trains seeds of its own. Where seeds train one by one, as they do if checkpoints
    are saved, all devices share each batch.

    Args:
        config: of the run.
        one_by_one: whether seeds train one by one whatever the config says.

    Raises:
        InputError: more devices asked for than there are, or, with several processes, not all of them.
    """
    mesh, count = config.mesh, jax.device_count()
    seed, data = mesh.seed, mesh.data
    if seed is None and data is None and (one_by_one or config.checkpoint_epochs):
        seed, data = 1, count
    if count == 1 and (seed or 1) == (data or 1) == 1 and not mesh.shard_params:
        yield
        return
    made = make_mesh(seed, 1 if data is None else data, shard_params=mesh.shard_params)
    if jax.process_count() > 1 and made.size != count:
        raise InputError(
            f"mesh.seed x mesh.data is {made.shape['seed']} x {made.size // made.shape['seed']}, but the "
            f"{jax.process_count()} processes have {count} devices and all must be used: choose numbers "
            f"whose product is {count}"
        )
    devices = f"{made.size} of {count} devices" if made.size < count else f"all {count} devices"
    say(f"mesh: {' x '.join(f'{name} {size}' for name, size in made.shape.items())}, {devices}")
    with jax.set_mesh(made):
        yield
