"""Where data lies: prepared data sets, and what is kept of them."""

import os
from pathlib import Path


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data sets: `data_dir`, or TFDS's own default."""
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return Path(data_dir).expanduser().absolute()


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of decoded copies and indexes: `cache_dir`, `DIET_JAX_CACHE`, or the user's cache folder."""
    folder = cache_dir or os.environ.get("DIET_JAX_CACHE")
    if folder:
        return Path(folder).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("diet_jax", appauthor=False)
