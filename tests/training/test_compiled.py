"""A training's own compiler options: they reach its programs, and no other."""

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.training import compiled


def test_the_options_reach_the_programs_of_the_training_alone(train_split, monkeypatch):
    asked = []
    real = jax.jit

    def jit(fn, *, compiler_options=None, **options):
        asked.append((getattr(fn, "__name__", ""), compiler_options))
        return real(fn, compiler_options=compiler_options, **options)

    monkeypatch.setattr(compiled.jax, "jit", jit)
    options = ("xla_backend_optimization_level=0", "xla_cpu_enable_fast_math=FALSE")
    config = dj.TrainConfig(steps=3, batch_size=8, compiler_options=options, steps_per_call=2)
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    result = dj.score_ensemble(dj.seed_keys(0, "score", 2), model, train_split, config=config, step=3)
    wanted = {"xla_backend_optimization_level": "0", "xla_cpu_enable_fast_math": False}
    assert ("score_program", wanted) in asked
    state, _ = dj.train(dj.seed_keys(0, "score", 2)[1], model, train_split, config=config)
    assert ("train_steps", wanted) in asked
    plain = dj.TrainConfig(steps=3, batch_size=8, steps_per_call=2)
    without, _ = dj.train(dj.seed_keys(0, "score", 2)[1], model, train_split, config=plain)
    for a, b, c in zip(
        *map(jax.tree.leaves, (state.variables, without.variables, dj.take_seed(result.variables, 1))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "option",
    ["xla_no_such_option=1", "xla_backend_optimization_level=high", "xla_backend_optimization_level=0.5"],
)
def test_the_compilers_refusal_is_one_message(option, train_split):
    config = dj.TrainConfig(steps=3, batch_size=8, compiler_options=(option,))
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    with pytest.raises(InputError, match=f"compiler_options: the cpu compiler refuses '{option}'"):
        dj.train(jax.random.key(0), model, train_split, config=config)


@pytest.mark.parametrize("option", ["", "name", "=1", "name=", " name=1"])
def test_the_form_is_checked(option):
    with pytest.raises(InputError, match="compiler_options must be of the form name=value"):
        dj.TrainConfig(compiler_options=(option,))


def test_an_option_is_named_once():
    with pytest.raises(InputError, match="must name each option once"):
        dj.TrainConfig(compiler_options=("a=true", "a=false"))


def test_fractions_are_numbers(train_split):
    config = dj.TrainConfig(steps=1, batch_size=8, compiler_options=("exec_time_optimization_effort=0.5",))
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    state, _ = dj.train(jax.random.key(0), model, train_split, config=config)
    assert int(state.step) == 1
