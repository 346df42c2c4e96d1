"""Strict settings for every test: shapes checked, no silent promotion, no shared cache."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping

jaxtyping.install_import_hook("diet_jax", "beartype.beartype")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each test writes decoded datasets to a folder of its own."""
    monkeypatch.setenv("DIET_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
