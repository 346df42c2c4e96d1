"""Names and digests of functions and objects: the same for the same code, another for other code."""

import functools
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.options.identity import identify
from diet_jax.options.plain import plain

MODULE = """
import functools
import flax.linen as nn
import jax
import helpers
from helpers import scale

FACTOR = 2.0

def inner(x):
    return FACTOR * scale(x)

def outer(x, shift=1):
    'Docstring.'
    return inner(x) + shift + helpers.offset(x)

def made(power):
    def function(x):
        return x ** power
    return function

class Net(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(self.width)(inner(x))

from diet_jax.options.identity import identify
import diet_jax as dj
THINGS = (outer, functools.partial(outer, shift=1), made(2), Net, dj.from_linen(Net()), jax.jit(outer), outer)
print([identify(thing) for thing in THINGS])
"""
HELPERS = "def scale(x):\n    return x\n\ndef offset(x):\n    return 0\n"


def digests(folder, module=MODULE, helpers=HELPERS, as_file=True):
    """What another process finds."""
    (folder / "helpers.py").write_text(helpers)
    (folder / "script.py").write_text(module)
    command = [sys.executable, "script.py"] if as_file else [sys.executable, "-c", "import script"]
    return eval(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)


def test_another_process_finds_the_same_and_layout_does_not_count(tmp_path, unchanged):
    found = unchanged
    assert found[0] == found[-1]
    assert len(set(found)) == len(found) - 1
    other = MODULE.replace("'Docstring.'", "# A comment.").replace("x, shift=1", "x,  shift = 1")
    assert digests(tmp_path, other, as_file=False) == found


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    return digests(tmp_path_factory.mktemp("unchanged"))


@pytest.mark.parametrize(
    ("module", "helpers", "same"),
    [
        (MODULE.replace("FACTOR = 2.0", "FACTOR = 2.5"), HELPERS, (2,)),
        (MODULE, HELPERS.replace("return 0", "return 1"), (2, 3, 4)),
        (MODULE.replace("Net())", "Net(5))"), HELPERS, (0, 1, 2, 3, 5, 6)),
    ],
    ids=["global", "of-own-module", "field"],
)
def test_what_the_code_names_counts_and_nothing_else(tmp_path, unchanged, module, helpers, same):
    after = digests(tmp_path, module, helpers)
    assert tuple(i for i in range(len(after)) if unchanged[i] == after[i]) == same


def test_objects_of_packages_count_by_what_they_hold():
    assert identify(optax.adam(1e-3)) == identify(optax.adam(1e-3)) != identify(optax.adam(1e-2))
    assert identify(functools.partial(optax.lion, b1=0.8)) != identify(functools.partial(optax.lion, b1=0.9))
    assert identify(nn.Dense(3)) == identify(nn.Dense(3)) != identify(nn.Dense(4))
    first, second = (dj.create_model("mlp", num_classes=3, widths=widths) for widths in ([4], [5]))
    assert identify(first) != identify(second)
    assert identify({"a": jnp.arange(3)}) == identify({"a": jnp.arange(3)}) != identify({"a": np.arange(4)})
    assert identify(jax.random.key(0)) != identify(jax.random.key(1))
    assert identify(lambda x: 1 * x) != identify(lambda x: 2 * x)


def test_a_schedule_that_was_called_is_the_same():
    """Optax's cosine turns the integer it holds into a float at its first call."""
    schedule = optax.cosine_decay_schedule(0.1, 16)
    before = [identify(schedule), identify(optax.adam(schedule))]
    with jax.numpy_dtype_promotion("standard"):
        schedule(3)
    assert [identify(schedule), identify(optax.adam(schedule))] == before
    assert identify(optax.cosine_decay_schedule(0.1, 17)) != before[0]


def test_functions_without_a_file_and_cycles():
    space: dict = {"__name__": "__main__"}
    exec(textwrap.dedent("def f(x):\n    return f(x - 1) + 2\ndef g(x):\n    return f(x)"), space)
    before = identify(space["g"])
    exec("def f(x):\n    return f(x - 1) + 3", space)
    assert identify(space["g"]) != before
    ring: list = []
    ring.append(ring)
    assert identify(ring) == identify(ring)


def test_json_values_hold_code_by_its_name():
    made = plain({"a": optax.adam(1e-3), "b": (1, 2.0), "c": optax.sgd, "d": float("inf"), "e": ()})
    assert made["a"].startswith("GradientTransformation")
    assert made["c"].startswith("sgd ")
    assert (made["b"], made["d"], made["e"]) == ([1, 2.0], "inf", [])
