"""AdamW and optimisers of one's own: the published update, what is refused, one result by every way."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.options.plain import from_json, to_json
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start, train_between
from diet_jax.training.recipe import decay_boundaries, make_optimizer, make_schedule, rate_remark
from diet_jax.training.step import Program, init_state, train_step

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model():
    return dj.create_model("mlp", num_classes=3, widths=(8,))


def matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def kinds(params):
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "rest", params)


def chained(rate):
    """Its state has masked nodes, a dict of numbers, and what it is told of the loss."""
    decay = optax.masked(optax.add_decayed_weights(0.1), matrices)
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    return optax.chain(decay, optax.inject_hyperparams(optax.adam)(rate), plateau)


# Its state has a dict of masked states, a key, and arrays of two dtypes.
PARTITIONED = optax.partition(
    {
        "matrix": optax.adam(1e-2, mu_dtype=jnp.bfloat16),
        "rest": optax.chain(optax.add_noise(0.01, 0.5, key=jax.random.key(7)), optax.sgd(0.1, momentum=0.9)),
    },
    kinds,
)
OWN = {"adamw": "adamw", "chained": chained, "partitioned": PARTITIONED}
# The one with most state to lose; the others are further cases.
FEW = [pytest.param(name, marks=() if name == "chained" else pytest.mark.slow) for name in OWN]


def config_of(optimizer, **options):
    rate = {} if isinstance(optimizer, optax.GradientTransformation) else {"learning_rate": 1e-2}
    return dj.TrainConfig(steps=12, batch_size=8, augment="none", optimizer=optimizer, **rate, **options)


def plain_arrays(tree):
    is_key = functools.partial(jnp.issubdtype, arg2=jax.dtypes.prng_key)
    return jax.tree.map(
        lambda leaf: np.array(jax.random.key_data(leaf) if is_key(leaf.dtype) else leaf), tree
    )


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, plain_arrays(a), plain_arrays(b))


@pytest.mark.parametrize(
    ("options", "is_said"),
    [
        ({"optimizer": "adamw"}, True),
        ({"optimizer": "adamw", "learning_rate": 1e-3}, False),
        ({"optimizer": "adamw", "schedule": optax.constant_schedule(1e-3)}, False),
        ({}, False),
        ({"optimizer": optax.adam}, False),
    ],
)
def test_the_rate_of_sgd_is_said_where_adamw_keeps_it(options, is_said):
    remark = rate_remark(dj.TrainConfig(**options))
    assert (remark is not None) == is_said
    assert remark is None or "is 0.1, which is for SGD; AdamW wants about 0.001" in remark


@pytest.mark.parametrize("decay", [1e-4, 0.3])
def test_adamw_equals_the_published_update(decay):
    """Kingma & Ba's update with bias correction, Loshchilov & Hutter's decay beside it, in NumPy."""
    options = dj.AdamWOptions(b1=0.8, b2=0.95, eps=1e-3, weight_decay=decay)
    config = dj.TrainConfig(
        steps=20, optimizer="adamw", learning_rate=0.1, schedule="cosine", warmup=0.2, adamw=options
    )
    optimizer = make_optimizer(config, 20)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=7)
    params = jnp.asarray(weights, jnp.float32)
    state = optimizer.init(params)
    first, second = np.zeros(7), np.zeros(7)
    for t in range(1, 21):
        gradient = rng.normal(size=7)
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.1 * (t / 4 if t < 4 else 0.5 * (1 + math.cos(math.pi * (t - 4) / 16)))
        first = 0.8 * first + 0.2 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        step = (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.95**t)) + 1e-3)
        weights = weights - rate * (step + decay * weights)
        np.testing.assert_allclose(params, weights, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_the_name_is_the_function_of_optax(model, train_split):
    by_name, by_function = (
        dj.train(KEY, model, train_split, config=config_of(chosen)) for chosen in ("adamw", optax.adamw)
    )
    assert_equal(by_name, by_function)


@pytest.mark.slow
def test_a_function_is_given_the_rate_of_the_config(model, train_split):
    """The paper's SGD as a function of the rate, against the name, whose options are in other fields."""

    def own(rate):
        return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9, nesterov=True))

    options = {"steps": 12, "batch_size": 8, "schedule": "linear", "warmup": 0.3}
    named, owned = (
        dj.train(KEY, model, train_split, config=dj.TrainConfig(optimizer=optimizer, **options))
        for optimizer in ("sgd", own)
    )
    assert_equal((named[0].variables, named[1]), (owned[0].variables, owned[1]))


@pytest.mark.parametrize("make", [float, np.float64, jnp.bfloat16])
def test_a_schedule_of_ones_own_counts_from_0(make):
    """Its number may be of any type; the rate that the optimiser gets is a float32."""

    def schedule(count):
        return jnp.where(count < 3, make(0.5), make(0.25))

    config = dj.TrainConfig(steps=5, optimizer=optax.sgd, schedule=schedule)
    optimizer, weight, moved = make_optimizer(config, 5), jnp.zeros(()), []
    state = optimizer.init(weight)
    for _ in range(5):
        update, state = optimizer.update(jnp.ones(()), state, weight)
        assert update.dtype == jnp.float32
        moved.append(-float(update))
    assert moved == [0.5, 0.5, 0.5, 0.25, 0.25]
    assert decay_boundaries(config, 5) is None
    constant = make_schedule(dj.TrainConfig(schedule=lambda count: make(0.5)), 5)(jnp.int32(1))
    assert (float(constant), constant.dtype, constant.weak_type) == (0.5, jnp.float32, False)


def test_a_schedule_of_optax_gives_its_own_rates():
    """Rises to 0.3 at the update with 4 before it, then half a cosine to 0 at 20."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.3, 4, 20)
    rate = make_schedule(dj.TrainConfig(schedule=schedule), 20)
    counts = range(20)
    expected = [0.3 * n / 4 if n < 4 else 0.15 * (1 + math.cos(math.pi * (n - 4) / 16)) for n in counts]
    np.testing.assert_allclose([rate(jnp.int32(n + 1)) for n in counts], expected, atol=1e-6)


@pytest.mark.parametrize("name", FEW)
def test_side_by_side_equals_one_by_one(name, model, train_split, test_split):
    keys = dj.seed_keys(0, "retrain", 2)
    run = functools.partial(dj.train_ensemble, keys, model, train_split, test_split)
    together, alone = (run(config=config_of(OWN[name]), how=how) for how in ("vmap", "loop"))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), together.history, alone.history
    )
    assert np.mean(alone.history.loss[:, -3:]) < np.mean(alone.history.loss[:, :3])


@pytest.mark.parametrize("name", FEW)
def test_a_stopped_training_goes_on_to_the_same_digits(name, model, train_split, tmp_path):
    program = Program(model, config_of(OWN[name], steps_per_call=3), 12)
    fresh = functools.partial(start, KEY, train_split, program=program)
    examples, kept = train_split.examples(), np.arange(50, dtype=np.int32)
    # The types of all leaves stay as they are: one program does all updates.
    after, _ = jax.eval_shape(functools.partial(train_step, program=program), fresh(), examples, kept[:8])
    before = jax.eval_shape(
        functools.partial(init_state, spec=train_split.spec, num_examples=50, program=program), KEY
    )
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert [leaf.weak_type for leaf in jax.tree.leaves(before)] == [False] * len(jax.tree.leaves(before))
    assert list(map(str, jax.tree.leaves(after))) == list(map(str, jax.tree.leaves(before)))

    store = Checkpoints(tmp_path / "seed")
    stops = train_between(fresh(), examples, kept, [5, 12], program=program)
    store.save(next(stops)[0])
    whole, history = next(stops)
    restored = store.restore(5, fresh())
    resumed, tail = next(train_between(restored, examples, kept, [12], program=program))
    assert_equal((resumed, tail), (whole, history))


def test_a_checkpoint_of_another_optimiser_is_refused(model, train_split, tmp_path):
    sgd, adamw = (
        start(KEY, train_split, program=Program(model, config_of(name), 12)) for name in ("sgd", "adamw")
    )
    store = Checkpoints(tmp_path / "seed")
    store.save(sgd)
    with pytest.raises(InputError, match=r"another network .*opt_state"):
        store.restore(0, adamw)


def test_transformations_are_told_of_the_loss(model, train_split):
    """Loss, gradient and loss function of the step's own batch, at the parameters before the update."""

    def init(params):
        return {name: jnp.zeros(()) for name in ("value", "again", "gap")}

    def update(updates, state, params, *, value, grad, value_fn, **others):
        assert not others
        again, slope = jax.value_and_grad(value_fn)(params)
        gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), grad, slope)
        return updates, {"value": value, "again": again, "gap": jnp.max(jnp.stack(jax.tree.leaves(gaps)))}

    watching = optax.chain(optax.GradientTransformationExtraArgs(init, update), optax.sgd(0.1))
    config = config_of(watching)
    state, history = dj.train(KEY, model, train_split, config=config, num_updates=4)
    seen = state.opt_state[0]
    np.testing.assert_array_equal(seen["value"], history.loss[-1])
    np.testing.assert_allclose(seen["again"], history.loss[-1], rtol=1e-5)
    assert float(seen["gap"]) < 1e-5


def test_a_plateau_lowers_the_rate_that_was_given(model, train_split):
    """With a tolerance that no loss meets the scale halves after every update but the first."""
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.0, atol=1e6)
    state, _ = dj.train(
        KEY, model, train_split, config=config_of(optax.chain(optax.sgd(0.1), plateau)), num_updates=5
    )
    assert 0 < float(state.opt_state[1].scale) <= 0.5**4


class Named:
    """Callable and compared by value, but without a hash."""

    def __call__(self, rate):
        return optax.sgd(rate)

    def __eq__(self, other):
        return isinstance(other, Named)

    __hash__ = None  # type: ignore[assignment]


STATE = optax.adam(1e-3).init({"w": np.zeros((40, 40), np.float32)})


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adam", "optimizer must be one of sgd, adamw, or in Python .*optax.adam.*got 'adam' .*mean 'adamw'"),
        (to_json(dj.TrainConfig(optimizer=optax.adam))["optimizer"], "optimizer must be .* got 'adam "),
        (optax.GradientTransformation, r"optimizer must be .*\(type\)"),
        (0.1, r"optimizer must be .*got 0.1 \(float\)"),
        (None, r"optimizer must be .*got None"),
        (STATE, r"optimizer must be .*got \(ScaleByAdamState.*\.\.\. \(tuple\)$"),
        (Named(), "optimizer must be hashable.*partial"),
    ],
)
def test_what_is_no_optimiser_is_refused_in_one_line(optimizer, message, unchecked_types):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        dj.TrainConfig(optimizer=optimizer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", ["linaer", 0.1, optax.adam(1e-3), optax.Schedule | None, int])
def test_what_is_no_schedule_is_refused(schedule, unchecked_types):
    with pytest.raises(
        InputError, match=r"^schedule must be one of piecewise, linear, cosine, or in Python an Op"
    ):
        dj.TrainConfig(schedule=schedule)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: optax.sgd(0.1), "cannot be called with a learning rate .TypeError.*optax.adam"),
        (lambda rate: 0.1, "must return an optax.GradientTransformation.*got 0.1"),
        (lambda rate: optax.adam, "must return an optax.GradientTransformation.*got <function adam"),
    ],
)
def test_a_function_that_makes_no_optimiser_is_refused(function, message, model, train_split):
    with pytest.raises(InputError, match=message):
        dj.train(KEY, model, train_split, config=config_of(function))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda count: 0.1 if count < 3 else 0.2, "fails for the number of updates.*Tracer"),
        (lambda count: jnp.zeros(3), r"must return one number, got shape \(3,\)"),
        (lambda count: None, "fails for the number of updates"),
    ],
)
def test_a_schedule_that_gives_no_rate_is_refused(schedule, message):
    with pytest.raises(InputError, match=message):
        make_schedule(dj.TrainConfig(schedule=schedule), 10)


COSINE = optax.cosine_decay_schedule(0.1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.1, "momentum": 0.5},
         r"momentum is 0.5 \(default 0.9\), weight_decay is 0.1 .default 0.0005., but optimizer sgd alone"),
        ({"adamw": dj.AdamWOptions(b1=0.8)}, r"adamw.b1 is 0.8 \(default 0.9\), but optimizer adamw alone"),
        ({"optimizer": optax.adam, "nesterov": False}, "nesterov is False .* object with options of its own"),
        ({"optimizer": optax.adam, "adamw": dj.AdamWOptions(eps=1.0)}, "adamw.eps is 1.0"),
        ({"optimizer": optax.adam(0.1), "learning_rate": 0.2, "schedule": "cosine", "warmup": 0.1},
         "learning_rate is 0.2 .*, schedule is cosine .*, warmup is 0.1 .* rate of its own: give a function"),
        ({"optimizer": optax.adam(0.1), "schedule": COSINE}, "schedule is .*rate of its own"),
        ({"schedule": COSINE, "learning_rate": 0.2, "decay_at": ()}, "learning_rate is 0.2 .*, decay_at is"),
        ({"schedule": COSINE, "decay_factor": 0.5}, "decay_factor is 0.5 .*schedule is a function"),
    ],
)  # fmt: skip
def test_options_that_nothing_reads_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dj.TrainConfig(**options)


@pytest.mark.parametrize(
    ("field", "value"), [("b1", 1.0), ("b2", -0.1), ("eps", -1.0), ("weight_decay", math.inf)]
)
def test_adamw_refuses_bad_values_by_name(field, value):
    with pytest.raises(InputError, match=f"^adamw.{field} must"):
        dj.AdamWOptions(**{field: value})


def test_configs_are_equal_where_their_objects_are():
    adam, lion = optax.adam(1e-3), functools.partial(optax.lion, weight_decay=np.float32(0.1))
    for optimizer in (adam, lion, optax.adam):
        one, other = (dj.TrainConfig(optimizer=optimizer) for _ in range(2))
        assert (one == other, hash(one) == hash(other)) == (True, True)
        assert dataclasses.replace(one, epochs=3).optimizer is optimizer
    assert dj.TrainConfig(optimizer=adam) != dj.TrainConfig(optimizer=optax.adam(1e-3))


def test_a_config_with_objects_is_written_by_name_and_digest(unchecked_types):
    for one, same, other in (
        (optax.adam(1e-3), optax.adam(1e-3), optax.adam(1e-2)),
        (optax.adam, optax.adam, optax.adamax),
        *(tuple(functools.partial(optax.lion, weight_decay=decay) for decay in (0.1, 0.1, 0.2)),),
    ):
        texts = [
            to_json(dj.TrainConfig(optimizer=optimizer))["optimizer"] for optimizer in (one, same, other)
        ]
        assert isinstance(texts[0], str)
        assert texts[0] == texts[1] != texts[2]
    written = to_json(dj.TrainConfig(optimizer="adamw", learning_rate=0.1, adamw=dj.AdamWOptions(b1=0.8)))
    assert from_json(dj.TrainConfig, written).adamw.b1 == 0.8
    with pytest.raises(InputError, match="optimizer must be one of sgd, adamw"):
        from_json(dj.TrainConfig, to_json(dj.TrainConfig(optimizer=optax.adam(1e-3))))
