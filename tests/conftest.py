"""Strict settings for every test: shapes checked, no silent promotion, no shared cache."""

import before_jax  # noqa: F401  isort: skip

import gc
import itertools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from PIL import Image

# Tower: an int is fine where a float is asked for, as for every type checker.
jaxtyping.install_import_hook(
    "diet_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

import built_in  # noqa: E402, F401

from diet_jax.data.dataset import Dataset  # noqa: E402
from diet_jax.data.sources.source import SOURCES  # noqa: E402
from diet_jax.data.sources.tfds.archives import Contents  # noqa: E402
from diet_jax.data.sources.tfds.write import write_prepared  # noqa: E402
from diet_jax.devices.progress import Progress  # noqa: E402
from diet_jax.models import from_linen  # noqa: E402
from diet_jax.scores.score import SCORES  # noqa: E402
from diet_jax.selection.rule import RULES  # noqa: E402

# Traced programs are a million small objects that stay: going through them often is a twentieth of the time.
gc.set_threshold(100_000, 50, 100)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

NUMBERS = itertools.count()
REGISTRIES = (SCORES, RULES, SOURCES)


# Half a minute each: begun first, they do not keep one worker busy when the others are done.
LONG = ("test_notebooks", "test_processes", "test_mesh", "test_checkpoints", "test_recipes", "test_docs")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


# A compiled program takes some memory maps; Linux allows a process 65,530, and XLA is aborted at the next.
MOST_MAPS = 30_000


def pytest_runtest_teardown(item, nextitem):
    """Lets go of compiled programs between two files once there are many of them."""
    maps = Path("/proc/self/maps")
    if nextitem is None or nextitem.path == item.path or not maps.exists():
        return
    if maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True, scope="session")
def not_the_users_cache(tmp_path_factory):
    """Fixtures that many tests share begin before `own_cache`, and leave the user's folder alone too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIET_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each test writes decoded datasets to a folder of its own, made when something is written."""
    folder = tmp_path_factory.getbasetemp() / f"cache_{next(NUMBERS)}"
    monkeypatch.setenv("DIET_JAX_CACHE", str(folder))


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    """What a test, a page or a file that it runs registers is gone after it."""
    before = [(registry, {name: registry.find(name) for name in registry.names()}) for registry in REGISTRIES]
    yield
    for registry, items in before:
        if registry._items != items:
            registry._items.clear()
            registry._items.update(items)


@pytest.fixture
def unchecked_types():
    """As outside the tests: the library's own checks see what its annotations forbid."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class ConvNet(nn.Module):
    """One convolution, BatchNorm, relu, dense: every kind of parameter, quick to compile."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (3, 3), strides=(4, 4), dtype=self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = nn.relu(x).reshape(len(x), -1)
        return nn.Dense(3, dtype=self.dtype)(x)


def tiny_dataset(count: int, seed: int, split: str, normalization=None) -> Dataset:
    """Three classes of 8x8 images with two channels; each class is bright in another corner."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    images = rng.integers(0, 160, (count, 8, 8, 2))
    for row, label in enumerate(labels):
        images[row, 4 * (label // 2) :, 4 * (label % 2) : 4 * (label % 2) + 4] += 60
    return Dataset.from_arrays(images.astype(np.uint8), labels, split=split, normalization=normalization)


@pytest.fixture(scope="session")
def train_split():
    return tiny_dataset(50, 0, "train")


@pytest.fixture(scope="session")
def test_split(train_split):
    return tiny_dataset(23, 1, "test", train_split.normalization)


@pytest.fixture(scope="session")
def conv_model():
    return from_linen(ConvNet())


@pytest.fixture(scope="session")
def conv_variables(conv_model):
    """Variables without a 0 or 1 of initialisation in them, so that a forgotten bias or statistic shows."""
    rng = np.random.default_rng(2)

    def fill(leaf):
        kernel = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(kernel if leaf.ndim > 1 else rng.uniform(0.3, 1.2, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(lambda: conv_model.init(jax.random.key(0), (8, 8, 2)))
    return jax.tree.map(fill, shapes)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """A folder of 8x8 colour images, 30 to train and 12 to test, of three classes bright in other corners."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 12)):
        for number in range(count):
            label = number % 3
            folder = root / split / "abc"[label]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 160, (8, 8, 3))
            pixels[4 * (label // 2) :, 4 * (label % 2) : 4 * (label % 2) + 4] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04d}.png")
    return root


@pytest.fixture(scope="session")
def image_records(tmp_path_factory):
    """A TFDS data folder with 30 and 12 random images under the name of mnist, in array_record format."""
    root, rng = tmp_path_factory.mktemp("records"), np.random.default_rng(1)
    sizes = {"train": 30, "test": 12}
    images = {s: rng.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8) for s, n in sizes.items()}
    labels = {s: {"label": np.arange(n) % 10} for s, n in sizes.items()}
    write_prepared("mnist", Contents(images, labels, {}), False, root, Progress("", quiet=True))
    return root
