"""Find the training examples that matter, early in training.

GraNd, EL2N and forgetting scores of an ensemble, and retraining on what they keep, as pure functions of JAX
arrays: "Deep Learning on a Data Diet" (arXiv 2107.07075).
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diet_jax.augment import normalize
    from diet_jax.data import Dataset, Normalization, Splits
    from diet_jax.datasets import load_dataset
    from diet_jax.datasets.prepare import prepare_dataset
    from diet_jax.ensemble import over_seeds, take_seed
    from diet_jax.errors import InputError
    from diet_jax.loop import score_dataset, train
    from diet_jax.losses import cross_entropy, error_vector
    from diet_jax.models import create_model, from_linen
    from diet_jax.per_example.clipping import clipping_factors
    from diet_jax.per_example.explanation import explain
    from diet_jax.per_example.norms import per_example_grad_norms
    from diet_jax.pruning import (
        keep_highest,
        keep_lowest,
        keep_random,
        keep_window,
        kept_indices,
        num_kept,
        tie_mass,
    )
    from diet_jax.recipe import TrainConfig
    from diet_jax.retraining import EnsembleTraining, train_ensemble
    from diet_jax.score_files import ScoreFile
    from diet_jax.scores.agreement import el2n_agreement
    from diet_jax.scores.dynamics import forgetting_scores
    from diet_jax.scores.gradients import example_loss, grand, grand_last_layer, grand_vmap
    from diet_jax.scores.logit_gradients import (
        diagnose_el2n,
        label_free_score,
        logit_grad_gram,
        logit_grad_norms,
        logit_sum_gradient,
    )
    from diet_jax.scores.logits import el2n
    from diet_jax.scoring import EnsembleScores, score_ensemble
    from diet_jax.seeds import seed_keys
    from diet_jax.training import TrainState
    from diet_jax.types import Examples, Model, Variables

# A name is imported when it is first used, so that `import diet_jax` costs little more than `import jax`.
_HOMES = {
    "Dataset": "data",
    "EnsembleScores": "scoring",
    "EnsembleTraining": "retraining",
    "Examples": "types",
    "InputError": "errors",
    "Model": "types",
    "Normalization": "data",
    "ScoreFile": "score_files",
    "Splits": "data",
    "TrainConfig": "recipe",
    "TrainState": "training",
    "Variables": "types",
    "clipping_factors": "per_example.clipping",
    "create_model": "models",
    "cross_entropy": "losses",
    "diagnose_el2n": "scores.logit_gradients",
    "el2n": "scores.logits",
    "el2n_agreement": "scores.agreement",
    "error_vector": "losses",
    "example_loss": "scores.gradients",
    "explain": "per_example.explanation",
    "forgetting_scores": "scores.dynamics",
    "from_linen": "models",
    "grand": "scores.gradients",
    "grand_last_layer": "scores.gradients",
    "grand_vmap": "scores.gradients",
    "keep_highest": "pruning",
    "keep_lowest": "pruning",
    "keep_random": "pruning",
    "keep_window": "pruning",
    "kept_indices": "pruning",
    "label_free_score": "scores.logit_gradients",
    "load_dataset": "datasets",
    "logit_grad_gram": "scores.logit_gradients",
    "logit_grad_norms": "scores.logit_gradients",
    "logit_sum_gradient": "scores.logit_gradients",
    "normalize": "augment",
    "num_kept": "pruning",
    "over_seeds": "ensemble",
    "per_example_grad_norms": "per_example.norms",
    "prepare_dataset": "datasets.prepare",
    "score_dataset": "loop",
    "score_ensemble": "scoring",
    "seed_keys": "seeds",
    "take_seed": "ensemble",
    "tie_mass": "pruning",
    "train": "loop",
    "train_ensemble": "retraining",
}

__all__ = [
    "Dataset",
    "EnsembleScores",
    "EnsembleTraining",
    "Examples",
    "InputError",
    "Model",
    "Normalization",
    "ScoreFile",
    "Splits",
    "TrainConfig",
    "TrainState",
    "Variables",
    "clipping_factors",
    "create_model",
    "cross_entropy",
    "diagnose_el2n",
    "el2n",
    "el2n_agreement",
    "error_vector",
    "example_loss",
    "explain",
    "forgetting_scores",
    "from_linen",
    "grand",
    "grand_last_layer",
    "grand_vmap",
    "keep_highest",
    "keep_lowest",
    "keep_random",
    "keep_window",
    "kept_indices",
    "label_free_score",
    "load_dataset",
    "logit_grad_gram",
    "logit_grad_norms",
    "logit_sum_gradient",
    "normalize",
    "num_kept",
    "over_seeds",
    "per_example_grad_norms",
    "prepare_dataset",
    "score_dataset",
    "score_ensemble",
    "seed_keys",
    "take_seed",
    "tie_mass",
    "train",
    "train_ensemble",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diet_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"diet_jax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
