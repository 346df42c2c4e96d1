"""Scores that share a pass: the same numbers as alone, of one forward pass."""

import jax
import numpy as np
import pytest
from built_in import SCORE_NAMES

import diet_jax as dj
from diet_jax.ensemble.score_passes import passes_of
from diet_jax.scores.score import resolve_scores

OF_LOGITS = tuple(name for name in SCORE_NAMES if dj.SCORES.find(name).reads == "logits")
NAMES = ("grand", *OF_LOGITS, "input_norm", "forgetting", "class_center_distance")


def test_those_of_logits_share_one_and_the_others_have_their_own(conv_model):
    passes = passes_of(resolve_scores(NAMES), conv_model)
    assert len(OF_LOGITS) > 1
    assert [each.name for each in passes] == [
        ", ".join(OF_LOGITS),
        *("grand", "input_norm", "class_center_distance"),
    ]
    # The same programs are found again.
    assert passes_of(resolve_scores(NAMES), conv_model)[0].fn is passes[0].fn


def test_one_forward_pass_serves_all_that_read_logits(conv_model):
    """Products of matrices and convolutions of the compiled program, as of one score."""
    spec = jax.ShapeDtypeStruct((16, 8, 8, 2), "float32"), jax.ShapeDtypeStruct((16,), "int32")
    variables = jax.eval_shape(lambda: conv_model.init(jax.random.key(0), (8, 8, 2)))

    def products(names):
        (one,) = passes_of(resolve_scores(names), conv_model)
        text = jax.jit(one.fn).lower(variables, *spec).compile().as_text()
        return text.count(" dot(") + text.count(" convolution(") + text.count("custom-call(")

    assert products(OF_LOGITS) == products(OF_LOGITS[:1]) > 0


@pytest.mark.parametrize("how", [pytest.param("vmap", marks=pytest.mark.slow), "loop"])
def test_together_they_are_what_each_is_alone(conv_model, train_split, how):
    options = {
        "config": dj.TrainConfig(steps=6, batch_size=16, augment="none"),
        "step": 6,
        "how": how,
    }
    keys = dj.seed_keys(0, "score", 2)
    together = dj.score_ensemble(keys, conv_model, train_split, names=OF_LOGITS, **options)
    for name in OF_LOGITS:
        alone = dj.score_ensemble(keys, conv_model, train_split, names=(name,), **options)
        # Other programs: equal to rounding.
        np.testing.assert_allclose(
            together.scores[name], alone.scores[name], rtol=1e-4, atol=1e-5, err_msg=name
        )
