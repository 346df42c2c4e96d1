"""Your own source of datasets: registered in one file, `load_dataset` and the command line know its name.

Command: python examples/own_data.py
         diet-jax run examples/own_data.py --score.num-seeds 2
"""

import numpy as np

import diet_jax as dj


def load_blobs(*, data_dir, cache_dir, quiet):
    """Makes 4x4 images of noise around 0 and around 1; a real source reads what lies in `data_dir`."""
    rng = np.random.default_rng(0)

    def split(name, count, normalization=None):
        labels = np.arange(count) % 2
        images = rng.normal(labels[:, None, None], 1.5, (count, 4, 4))
        about = {"class_names": ("zero", "one"), "name": "blobs", "split": name}
        return dj.Dataset.from_arrays(images, labels, normalization=normalization, **about)

    train = split("train", 400)
    return dj.Splits(train, split("test", 200, train.normalization))


BLOBS = dj.SOURCES.register(dj.Source(name="blobs", about="noise around 0 and around 1", load=load_blobs))

CONFIG = dj.RunConfig(run_dir="runs/own-data", data=dj.DataConfig(name="blobs"))

if __name__ == "__main__":
    train, test = dj.load_dataset("blobs")
    print(f"{len(train)} and {len(test)} images of shape {train.image_shape}; classes {train.class_names}")
