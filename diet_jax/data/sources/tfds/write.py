"""Images and labels to a genuine TFDS directory in array_record format, without TensorFlow."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.reader import in_threads
from diet_jax.data.sources.tfds.archives import Contents
from diet_jax.devices.progress import Progress


def write_prepared(name: str, contents: Contents, has_ids: bool, folder: Path, progress: Progress) -> Path:
    """Writes a data set that TFDS defines, in the given order and without loss; returns the version's folder.

    Name, version, features and citation are those of TFDS. `has_ids` gives each example the id `train_00000`,
    `train_00001`, ...; `progress` is told of each image.
    """
    import tensorflow_datasets as tfds

    parent: Any = tfds.builder_cls(name)

    def examples(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        # TFDS encodes arrays with TensorFlow, but takes encoded bytes as they are.
        for i, image in enumerate(in_threads(_png, contents.images[split])):
            ids = {"id": f"{split}_{i:05d}"} if has_ids else {}
            labels = {key: int(values[i]) for key, values in contents.labels[split].items()}
            yield i, {**ids, "image": image, **labels}
            progress.update(1)

    class Writer(parent, skip_registration=True):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
        def _info(self) -> Any:
            info = super()._info()
            return tfds.core.DatasetInfo(
                builder=self,
                description=info.description,
                features=info.features,
                supervised_keys=info.supervised_keys,
                homepage=info.homepage,
                citation=info.citation,
                disable_shuffling=True,  # keeps the original order; by default TFDS sorts by a hash
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            for key, names in contents.class_names.items():
                self.info.features[key].names = names
            return {split: examples(split) for split in contents.images}

    Writer.name = name
    builder = Writer(data_dir=os.fspath(folder), file_format="array_record")
    with _silent_tfds():
        builder.download_and_prepare()
    return Path(builder.data_dir)


@contextlib.contextmanager
def _silent_tfds() -> Iterator[None]:
    """Keeps TFDS from printing and from drawing bars beside ours."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
