"""Find the training examples that matter, early in training.

GraNd, EL2N and forgetting scores of an ensemble, and retraining on what they keep, as pure functions of JAX
arrays: "Deep Learning on a Data Diet" (arXiv 2107.07075).
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diet_jax.augment import normalize, normalized_images
    from diet_jax.barriers import error_barrier, pairwise_barriers, path_correct, reestimate_statistics
    from diet_jax.connectivity import barrier_height, connectivity_onset, interpolate, spawn
    from diet_jax.data import Dataset, Normalization, Splits
    from diet_jax.datasets import load_dataset
    from diet_jax.datasets.prepare import prepare_dataset
    from diet_jax.datasets.streamed import StreamedDataset, load_streamed
    from diet_jax.detection import detection_quality
    from diet_jax.ensemble import over_seeds, take_seed
    from diet_jax.errors import InputError
    from diet_jax.label_files import read_labels
    from diet_jax.loop import train, train_from
    from diet_jax.losses import cross_entropy, error_vector
    from diet_jax.models import create_model, from_linen
    from diet_jax.models.convolution import matmul_convolution
    from diet_jax.models.linearized import linearize
    from diet_jax.noise import NoisyLabels, flip_labels, replace_labels
    from diet_jax.ntk.distance import kernel_distance, kernel_velocity
    from diet_jax.ntk.estimates import estimate_kernel_distance, estimate_logit_gram
    from diet_jax.ntk.gram import logit_gram
    from diet_jax.ntk.regression import kernel_regression
    from diet_jax.passes import score_dataset
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
    from diet_jax.scores.inputs import input_norm
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
    from diet_jax.sharding import make_mesh
    from diet_jax.streamed_scores import score_streamed
    from diet_jax.streaming import stream_between
    from diet_jax.training import TrainState
    from diet_jax.types import Examples, Model, Variables
    from diet_jax.window_tuning import best_window, held_out

# A name is imported when it is first used, so that `import diet_jax` costs little more than `import jax`.
_HOMES = {
    "Dataset": "data",
    "EnsembleScores": "scoring",
    "EnsembleTraining": "retraining",
    "Examples": "types",
    "InputError": "errors",
    "Model": "types",
    "NoisyLabels": "noise",
    "Normalization": "data",
    "ScoreFile": "score_files",
    "Splits": "data",
    "StreamedDataset": "datasets.streamed",
    "TrainConfig": "recipe",
    "TrainState": "training",
    "Variables": "types",
    "barrier_height": "connectivity",
    "best_window": "window_tuning",
    "clipping_factors": "per_example.clipping",
    "connectivity_onset": "connectivity",
    "create_model": "models",
    "cross_entropy": "losses",
    "detection_quality": "detection",
    "diagnose_el2n": "scores.logit_gradients",
    "el2n": "scores.logits",
    "el2n_agreement": "scores.agreement",
    "error_barrier": "barriers",
    "error_vector": "losses",
    "estimate_kernel_distance": "ntk.estimates",
    "estimate_logit_gram": "ntk.estimates",
    "example_loss": "scores.gradients",
    "explain": "per_example.explanation",
    "flip_labels": "noise",
    "forgetting_scores": "scores.dynamics",
    "from_linen": "models",
    "grand": "scores.gradients",
    "grand_last_layer": "scores.gradients",
    "grand_vmap": "scores.gradients",
    "held_out": "window_tuning",
    "input_norm": "scores.inputs",
    "interpolate": "connectivity",
    "keep_highest": "pruning",
    "keep_lowest": "pruning",
    "keep_random": "pruning",
    "keep_window": "pruning",
    "kept_indices": "pruning",
    "kernel_distance": "ntk.distance",
    "kernel_regression": "ntk.regression",
    "kernel_velocity": "ntk.distance",
    "label_free_score": "scores.logit_gradients",
    "linearize": "models.linearized",
    "load_dataset": "datasets",
    "load_streamed": "datasets.streamed",
    "logit_grad_gram": "scores.logit_gradients",
    "logit_grad_norms": "scores.logit_gradients",
    "logit_gram": "ntk.gram",
    "logit_sum_gradient": "scores.logit_gradients",
    "make_mesh": "sharding",
    "matmul_convolution": "models.convolution",
    "normalize": "augment",
    "normalized_images": "augment",
    "num_kept": "pruning",
    "over_seeds": "ensemble",
    "pairwise_barriers": "barriers",
    "path_correct": "barriers",
    "per_example_grad_norms": "per_example.norms",
    "prepare_dataset": "datasets.prepare",
    "read_labels": "label_files",
    "reestimate_statistics": "barriers",
    "replace_labels": "noise",
    "score_dataset": "passes",
    "score_ensemble": "scoring",
    "score_streamed": "streamed_scores",
    "seed_keys": "seeds",
    "spawn": "connectivity",
    "stream_between": "streaming",
    "take_seed": "ensemble",
    "tie_mass": "pruning",
    "train": "loop",
    "train_ensemble": "retraining",
    "train_from": "loop",
}

__all__ = [
    "Dataset",
    "EnsembleScores",
    "EnsembleTraining",
    "Examples",
    "InputError",
    "Model",
    "NoisyLabels",
    "Normalization",
    "ScoreFile",
    "Splits",
    "StreamedDataset",
    "TrainConfig",
    "TrainState",
    "Variables",
    "barrier_height",
    "best_window",
    "clipping_factors",
    "connectivity_onset",
    "create_model",
    "cross_entropy",
    "detection_quality",
    "diagnose_el2n",
    "el2n",
    "el2n_agreement",
    "error_barrier",
    "error_vector",
    "estimate_kernel_distance",
    "estimate_logit_gram",
    "example_loss",
    "explain",
    "flip_labels",
    "forgetting_scores",
    "from_linen",
    "grand",
    "grand_last_layer",
    "grand_vmap",
    "held_out",
    "input_norm",
    "interpolate",
    "keep_highest",
    "keep_lowest",
    "keep_random",
    "keep_window",
    "kept_indices",
    "kernel_distance",
    "kernel_regression",
    "kernel_velocity",
    "label_free_score",
    "linearize",
    "load_dataset",
    "load_streamed",
    "logit_grad_gram",
    "logit_grad_norms",
    "logit_gram",
    "logit_sum_gradient",
    "make_mesh",
    "matmul_convolution",
    "normalize",
    "normalized_images",
    "num_kept",
    "over_seeds",
    "pairwise_barriers",
    "path_correct",
    "per_example_grad_norms",
    "prepare_dataset",
    "read_labels",
    "reestimate_statistics",
    "replace_labels",
    "score_dataset",
    "score_ensemble",
    "score_streamed",
    "seed_keys",
    "spawn",
    "stream_between",
    "take_seed",
    "tie_mass",
    "train",
    "train_ensemble",
    "train_from",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diet_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"diet_jax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
