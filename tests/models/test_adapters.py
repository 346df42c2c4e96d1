"""Anyone's model: each adapter against the same network written by hand, BatchNorm and dropout included."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.models.adapters import check_model
from diet_jax.training.step import run_keys

nnx = pytest.importorskip("flax.nnx", reason="this Flax does not work with this JAX", exc_type=Exception)

SHAPE, WIDTH = (8, 8, 2), 6
RATE = 0.5
KEY = jax.random.key(8)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(WIDTH)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.Dropout(RATE, deterministic=not train)(nn.relu(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(128, WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(RATE, rngs=rngs)
        self.last = nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.first(x.reshape(len(x), -1)))
        return self.last(self.dropout(nnx.relu(x)))


class EquinoxNet(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.first = eqx.nn.Linear(128, WIDTH, key=first)
        self.norm = eqx.nn.BatchNorm(WIDTH, "batch", mode="batch", momentum=0.9)
        self.dropout = eqx.nn.Dropout(RATE)
        self.last = eqx.nn.Linear(WIDTH, 3, key=last)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x.reshape(-1)), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


class OnlyDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(RATE, deterministic=False)(x)


def draw(key, shape):
    return jax.random.bernoulli(key, 1 - RATE, shape)


# What each library's dropout keeps, from the key that the model is given for a batch.
KEEPS = {
    "linen": lambda key, shape: OnlyDropout().apply({}, jnp.ones(shape), rngs={"dropout": key}) > 0,
    "nnx": lambda key, shape: draw(jax.random.fold_in(jax.random.fold_in(key, 1), 0), shape),
    "equinox": lambda key, shape: jax.vmap(lambda one: draw(one, shape[1:]))(jax.random.split(key, shape[0])),
    "functions": draw,
}


def init_by_hand(key, shape):
    first, last = jax.random.split(key)
    params = {
        "first": {"w": 0.1 * jax.random.normal(first, (128, WIDTH)), "b": jnp.zeros(WIDTH)},
        "last": {"w": jax.random.normal(last, (WIDTH, 3)), "b": jnp.zeros(3)},
        "norm": {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)},
    }
    return dj.Variables(params, {"mean": jnp.zeros(WIDTH), "var": jnp.ones(WIDTH), "count": jnp.float32(0)})


def apply_by_hand(variables, x, *, train, key=None, name="functions"):
    p, state = variables
    x = x.reshape(len(x), -1) @ p["first"]["w"] + p["first"]["b"][None]
    if train:
        mean, var = x.mean(axis=0), x.var(axis=0)
        moved = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * var}
        state = {**moved, "count": state["count"] + 1}
    else:
        # Equinox takes the weight out that zeros of initialisation would have in the running statistics.
        debias = name == "equinox"
        scale = jnp.where((state["count"] > 0) & debias, 1 - 0.9 ** state["count"], 1.0)
        mean, var = state["mean"] / scale, state["var"] / scale
    x = (x - mean[None]) * jax.lax.rsqrt(var + 1e-5)[None]
    x = jnp.maximum(x * p["norm"]["scale"][None] + p["norm"]["bias"][None], 0)
    if train:
        x = jnp.where(KEEPS[name](key, x.shape), x / (1 - RATE), 0)
    return x @ p["last"]["w"] + p["last"]["b"][None], state


equinox_net = eqx.nn.make_with_state(EquinoxNet)
MODELS = {
    "linen": dj.from_linen(LinenNet()),
    "nnx": dj.from_nnx(NnxNet),
    "equinox": dj.from_equinox(equinox_net),
    "functions": dj.from_functions(init_by_hand, apply_by_hand),
}


def as_by_hand(name, variables):
    """The variables of an adapter in the form of the network by hand."""
    p, state = variables
    if name == "functions":
        return variables
    if name == "linen":
        stats = state["batch_stats"]["BatchNorm_0"]
        first, last = ([p[layer]["kernel"], p[layer]["bias"]] for layer in ("Dense_0", "Dense_1"))
        norm = [p["BatchNorm_0"]["scale"], p["BatchNorm_0"]["bias"]]
        count, mean, var = jnp.float32(0), stats["mean"], stats["var"]
    elif name == "nnx":
        first, last = ([p[f"{layer}/kernel/value"], p[f"{layer}/bias/value"]] for layer in ("first", "last"))
        norm = [p["norm/scale/value"], p["norm/bias/value"]]
        count, mean, var = jnp.float32(0), state["norm/mean/value"], state["norm/var/value"]
    else:
        first, last = ([p[f"{layer}/weight"].T, p[f"{layer}/bias"]] for layer in ("first", "last"))
        norm = [p["norm/weight"], p["norm/bias"]]
        count, mean, var = jax.tree.leaves(state["state"])
    params = {
        "first": dict(zip("wb", first, strict=True)),
        "last": dict(zip("wb", last, strict=True)),
        "norm": dict(zip(("scale", "bias"), norm, strict=True)),
    }
    return dj.Variables(params, {"mean": mean, "var": var, "count": count.astype(jnp.float32)})


BY_HAND = {
    name: dj.from_functions(
        lambda key, shape, name=name: as_by_hand(name, MODELS[name].init(key, shape)),
        functools.partial(apply_by_hand, name=name),
    )
    for name in MODELS
}


def moved(name, seed=1):
    """Variables without a 0 or 1 of initialisation: the statistics of two batches, every bias another."""
    model = MODELS[name]
    variables = model.init(jax.random.key(seed), SHAPE)
    for batch in range(2):
        x = seed + jax.random.normal(jax.random.key(batch), (16, *SHAPE))
        variables = variables._replace(model_state=model.apply(variables, x, train=True, key=KEY)[1])
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape),
        variables.params,
    )
    return variables._replace(params=params)


# The one that is least like Linen, in which most other tests have their networks.
QUICK = ("equinox",)


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def name(request):
    # Equinox's BatchNorm mixes a float with an int32 in train mode.
    with jax.numpy_dtype_promotion("standard" if request.param == "equinox" else "strict"):
        yield request.param


def test_eval_mode_gradients_and_scores_are_those_of_the_network_by_hand(name, train_split):
    model, hand, variables = MODELS[name], BY_HAND[name], moved(name)
    images, labels = dj.normalized_images(train_split, np.arange(9)), jnp.asarray(train_split.labels[:9])
    theirs = as_by_hand(name, variables)
    assert all(np.abs(leaf).min() > 1e-4 for leaf in jax.tree.leaves(theirs.params["norm"]))
    np.testing.assert_allclose(
        model.predict(variables, images), hand.predict(theirs, images), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        dj.el2n(model.predict, variables, images, labels),
        dj.el2n(hand.predict, theirs, images, labels),
        rtol=1e-4,
    )

    @jax.jit
    @jax.grad
    def gradient(params, one, label):
        logits = hand.predict(dj.Variables(params, theirs.model_state), one[None])[0]
        return jax.nn.logsumexp(logits) - logits[label]

    gradients = [gradient(theirs.params, images[i], labels[i]) for i in range(9)]
    norms = [np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(one))) for one in gradients]
    for score in (dj.grand, dj.grand_vmap):
        np.testing.assert_allclose(score(model.predict, variables, images, labels), norms, rtol=1e-4)


def test_train_mode_is_that_of_the_network_by_hand(name, train_split):
    model, variables = MODELS[name], moved(name)
    images = dj.normalized_images(train_split, np.arange(32))
    logits, state = model.apply(variables, images, train=True, key=KEY)
    expected, moved_state = BY_HAND[name].apply(as_by_hand(name, variables), images, train=True, key=KEY)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(variables.model_state)
    statistics = as_by_hand(name, variables._replace(model_state=state)).model_state
    for which in ("mean", "var"):
        np.testing.assert_allclose(statistics[which], moved_state[which], rtol=1e-4, atol=1e-6)
    other, _ = model.apply(variables, images, train=True, key=jax.random.key(9))
    assert float(jnp.abs(logits - other).max()) > 0.01
    _, kept = model.apply(variables, images, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, variables.model_state)


@pytest.mark.slow
def test_ensembles_are_those_of_the_network_by_hand(name, train_split, test_split):
    """Trained with dropout and BatchNorm from the same keys, together and one seed at a time."""
    config = dj.TrainConfig(steps=6, batch_size=8, learning_rate=0.05, augment="none")
    keys = dj.seed_keys(3, "score", 2)
    options = {"config": config, "step": (0, 6), "names": ("el2n", "grand", "forgetting")}
    together = dj.score_ensemble(keys, MODELS[name], train_split, how="vmap", **options)
    alone = dj.score_ensemble(keys, MODELS[name], train_split, how="loop", **options)
    by_hand = dj.score_ensemble(keys, BY_HAND[name], train_split, how="loop", **options)
    for score, values in together.scores.items():
        np.testing.assert_allclose(values, alone.scores[score], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(values, by_hand.scores[score], rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(together.history.loss, by_hand.history.loss, rtol=1e-3)
    assert np.ptp(together.scores["el2n"][1], axis=0).max() > 1e-3
    assert np.abs(np.diff(together.scores["grand"], axis=0)).max() > 0.1
    trained, expected = (
        dj.train_ensemble(keys, model, train_split, test_split, config=config, how="loop")
        for model in (MODELS[name], BY_HAND[name])
    )
    np.testing.assert_allclose(trained.loss, expected.loss, rtol=2e-3)
    np.testing.assert_array_equal(trained.predicted, expected.predicted)


@pytest.mark.slow
def test_each_step_draws_by_a_key_of_its_own(train_split):
    """Two steps of the training by hand: the streams of the run, and no other."""
    config = dj.TrainConfig(steps=2, batch_size=8, learning_rate=0.1, momentum=0.0, weight_decay=0.0,
                            decay_at=(), augment="none")  # fmt: skip
    key = jax.random.key(4)
    state, history = dj.train(key, MODELS["functions"], train_split, config=config)
    variables, streams = init_by_hand(run_keys(key).init, SHAPE), run_keys(key)
    order = jax.random.permutation(jax.random.fold_in(streams.order, 0), jnp.arange(len(train_split)))
    for step in range(2):
        rows = np.asarray(order[8 * step : 8 * step + 8])
        images, labels = dj.normalized_images(train_split, rows), jnp.asarray(train_split.labels[rows])

        def loss(params, state=variables.model_state, images=images, labels=labels, step=step):
            drop = jax.random.fold_in(streams.model, step)
            logits, new = apply_by_hand(dj.Variables(params, state), images, train=True, key=drop)
            return dj.cross_entropy(logits, labels).mean(), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(variables.params)
        np.testing.assert_allclose(history.loss[step], value, rtol=1e-5)
        params = jax.tree.map(lambda w, g: w - 0.1 * g, variables.params, gradients)
        variables = dj.Variables(params, new)
    for a, b in zip(jax.tree.leaves(state.variables), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_kernels_and_barriers_are_those_of_the_network_by_hand(name, train_split):
    model, ends = MODELS[name], [moved(name), moved(name, seed=2)]
    images = dj.normalized_images(train_split, np.arange(4))
    theirs = [as_by_hand(name, end) for end in ends]
    gram = dj.logit_gram(model.predict, ends[0], images)
    expected = dj.logit_gram(BY_HAND[name].predict, theirs[0], images)
    np.testing.assert_allclose(gram, expected, rtol=1e-3, atol=1e-4)
    for statistics in ("interpolated", "reestimated"):
        heights = [
            dj.error_barrier(one, *two, train_split, num_points=3, batch_statistics=statistics)
            for one, two in ((model, ends), (BY_HAND[name], theirs))
        ]
        assert heights[0] == pytest.approx(heights[1], abs=1 / len(train_split) + 1e-6)


def test_features_serve_the_last_layer_score(train_split):
    images = dj.normalized_images(train_split, np.arange(6))
    labels = jnp.asarray(train_split.labels[:6])

    def nnx_features(module, x):
        hidden = nnx.relu(module.norm(module.first(x.reshape(len(x), -1))))
        return module.last(hidden), hidden, True

    def equinox_features(module, state, x):
        hidden = jax.vmap(lambda one: jax.nn.relu(module.norm(module.first(one.reshape(-1)), state)[0]))(x)
        return jax.vmap(module.last)(hidden), hidden, True

    models = {
        ("last/kernel/value", "last/bias/value"): dj.from_nnx(NnxNet, features=nnx_features),
        ("last/weight", "last/bias"): dj.from_equinox(equinox_net, features=equinox_features),
    }
    for names, model in models.items():
        variables = model.init(jax.random.key(1), SHAPE)
        whole = functools.partial(dj.grand_last_layer, model.features)
        last = {path: variables.params[path] for path in names}

        def loss(last, one, label, model=model, variables=variables):
            params = {**variables.params, **last}
            logits = model.predict(variables._replace(params=params), one[None])
            return dj.cross_entropy(logits, label[None])[0]

        expected = dj.per_example_grad_norms(loss)(last, images, labels)
        np.testing.assert_allclose(whole(variables, images, labels), expected, rtol=1e-4)
    for model in (dj.from_nnx(NnxNet), dj.from_equinox(equinox_net), MODELS["functions"]):
        with pytest.raises(InputError, match="features"):
            dj.score_ensemble(
                dj.seed_keys(0, "score", 1), model, train_split, step=0, names=("grand_last_layer",),
                config=dj.TrainConfig(steps=1, batch_size=8),
            )  # fmt: skip


class TorchLike:
    __module__ = "torch.nn.modules.linear"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (LinenNet(), r"of flax\.linen: write dj\.from_linen"),
        (LinenNet, r"the class LinenNet of flax\.linen"),
        (NnxNet, r"of flax\.nnx: write dj\.from_nnx"),
        (eqx.nn.MLP(2, 2, 2, 1, key=jax.random.key(0)), r"of equinox: write dj\.from_equinox"),
        (TorchLike(), "of torch, which JAX cannot differentiate"),
        (lambda x: x, r"write dj\.from_functions"),
        ("resnet18", "an object of str: make a model by"),
    ],
    ids=["linen", "linen class", "nnx class", "equinox", "torch", "function", "name"],
)
def test_a_wrong_kind_of_object_gets_the_name_of_its_adapter(given, remedy, train_split, unchecked_types):
    with pytest.raises(InputError, match=remedy):
        check_model(given)
    with pytest.raises(InputError, match=remedy):
        dj.train(jax.random.key(0), given, train_split, config=dj.TrainConfig(steps=1, batch_size=8))
    for model in MODELS.values():
        check_model(model)


@pytest.mark.parametrize("adapter", [dj.from_nnx, dj.from_equinox])
@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (LinenNet(), r"of flax\.linen: write dj\.from_linen"),
        (LinenNet, r"the class LinenNet of flax\.linen: write dj\.from_linen"),
        (NnxNet(nnx.Rngs(0)), r"of flax\.nnx: write dj\.from_nnx\(lambda rngs"),
        (eqx.nn.MLP(2, 2, 2, 1, key=jax.random.key(0)), r"of equinox: write dj\.from_equinox\(lambda key"),
        (dj.from_linen(LinenNet()), "a model already"),
        (None, "NoneType: make a model by"),
    ],
    ids=["linen", "linen class", "nnx", "equinox", "model", "nothing"],
)
def test_what_constructs_no_module_is_told_in_a_line(adapter, given, remedy, unchecked_types):
    with pytest.raises(InputError, match=f"for every seed has its own.*{remedy}") as raised:
        adapter(given)
    assert len(str(raised.value)) < 300


def test_adapters_refuse_what_is_not_theirs(unchecked_types):
    with pytest.raises(InputError, match=r"of flax\.nnx: write dj\.from_nnx"):
        dj.from_linen(NnxNet)
    with pytest.raises(InputError, match="every seed has its own"):
        dj.from_nnx(NnxNet(nnx.Rngs(0)))
    with pytest.raises(InputError, match=r"expected it to make an nnx\.Module"):
        dj.from_nnx(lambda rngs: 3)
    with pytest.raises(InputError, match="every seed has its own"):
        dj.from_equinox(eqx.nn.MLP(2, 2, 2, 1, key=jax.random.key(0)))
    with pytest.raises(InputError, match=r"expected it to make an equinox\.Module"):
        dj.from_equinox(lambda key: {"w": key})
    with pytest.raises(InputError, match="init must be a function"):
        dj.from_functions({"w": 1}, apply_by_hand)
    stateful = dj.from_functions(init_by_hand, lambda variables, x, *, train: x)
    with pytest.raises(InputError, match=r"it must return \(logits, model_state\)"):
        stateful.predict(stateful.init(jax.random.key(0), SHAPE), jnp.ones((2, *SHAPE)))
    flat = dj.from_functions(lambda key, shape: {"w": jnp.ones(3)}, lambda params, x: x.mean(axis=(1, 2, 3)))
    with pytest.raises(InputError, match=r"must return logits \[batch, classes\], got \(2,\)"):
        flat.predict(flat.init(jax.random.key(0), SHAPE), jnp.ones((2, *SHAPE)))


def test_models_of_the_same_constructor_are_equal():
    assert dj.from_nnx(NnxNet) == dj.from_nnx(NnxNet)
    assert hash(dj.from_equinox(equinox_net)) == hash(dj.from_equinox(equinox_net))
    assert dj.from_functions(init_by_hand, apply_by_hand) == MODELS["functions"]
    assert dj.from_nnx(NnxNet) != dj.from_nnx(lambda rngs: NnxNet(rngs))
