"""Data sets by name, from disk. Nothing heavy is imported before a name needs it."""

import os

from diet_jax.data.dataset import Splits
from diet_jax.data.sources.cache import cache_folder
from diet_jax.data.sources.prepare import Archive, prepare_dataset

__all__ = ["Archive", "load_dataset", "prepare_dataset"]


def load_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Splits:
    """Loads a data set by name. No name needs the network or TensorFlow; what is not on disk is not fetched.

    - `digits`: scikit-learn's 1,797 scanned digits (8x8, values 0..16): 1,078 to train, 719 to test.
    - `folder:PATH`: images in `train/CLASS` and `test/CLASS`; `valid`, `validation` or `val` joins train.
    - `cinic10`: the same for `data_dir/cinic10` or `data_dir/CINIC-10`, with the paper's normalisation.
    - any TFDS image classifier prepared in array_record format, such as `cifar10`, `emnist/balanced` or
      `mnist:3.0.1`; `prepare_dataset` prepares the usual ones. Without a test split its validation split
      takes that place, under its own name.

    Normalisation is the paper's for CIFAR-10, CIFAR-100 (CIFAR-10's constants, as in the paper's code) and
    CINIC-10, else measured on the train split; the test split carries the same.

    Args:
        name: one of the above.
        data_dir: folder of prepared data sets; by default TFDS's: TFDS_DATA_DIR or ~/tensorflow_datasets.
        cache_dir: folder of decoded copies; by default DIET_JAX_CACHE or the user's cache folder.
        quiet: show no progress on stderr.

    Returns:
        The train and test split.

    Raises:
        InputError: the name is unknown, the data is not on disk, or it is no image classification data set.

    Example:
        >>> load_dataset("digits").train.image_shape
        (8, 8, 1)
    """
    if name == "digits":
        from diet_jax.data.sources.digits import load_digits

        return load_digits()
    cache = cache_folder(cache_dir)
    if name.startswith("folder:"):
        from diet_jax.data.sources.folder import load_folder

        return load_folder(name.removeprefix("folder:"), cache, quiet=quiet)
    if name == "cinic10":
        from diet_jax.data.sources.folder import load_cinic10

        return load_cinic10(data_dir, cache, quiet=quiet)
    from diet_jax.data.sources.prepared import load_prepared

    return load_prepared(name, data_dir, cache, quiet=quiet)
