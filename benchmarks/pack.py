"""Packs a dataset into one compressed file, for a machine where little is installed.

Command: python benchmarks/pack.py --dataset NAME [--data-dir DIR] --out FILE
Then:    from pack import load_packed; train, test = load_packed(FILE)

Reading needs NumPy, and Pillow where encoded images were packed, beside what `diet_jax.Dataset` itself needs:
neither TensorFlow Datasets nor array_record. Encoded images are packed as they are stored: small ones have
much in common and compress well together, which their pixels would not.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import diet_jax as dj


@dataclass(frozen=True)
class Options:
    """Packs the train and test split of a dataset into one file."""

    dataset: str
    """What `load_dataset` takes: digits, a prepared dataset such as cifar10, or folder:PATH."""
    out: Path
    """The file to write, .npz."""
    data_dir: Path | None = None
    """Where prepared datasets are; by default TFDS's own folder."""
    pixels: bool = False
    """Pack decoded images even where encoded ones are at hand."""


def pack(name: str, path: Path, *, data_dir: Path | None = None, pixels: bool = False) -> dj.Splits:
    """Writes a packed file and reads it back: a file that is not the same data is an error.

    Args:
        name: what `load_dataset` takes.
        path: where to write.
        data_dir: of prepared datasets.
        pixels: pack decoded images even where encoded ones are at hand.

    Returns:
        The dataset, as read back.
    """
    splits = dj.load_dataset(name, data_dir=data_dir, quiet=True)
    arrays: dict[str, Any] = {}
    for prefix, dataset in splits._asdict().items():
        encoded = None if pixels else encoded_images(name, data_dir, dataset)
        if encoded is None:
            arrays[f"{prefix}_pixels"] = dataset.images
        else:
            arrays[f"{prefix}_encoded"] = np.frombuffer(b"".join(encoded), np.uint8)
            arrays[f"{prefix}_lengths"] = np.array([len(image) for image in encoded])
        arrays[f"{prefix}_labels"], arrays[f"{prefix}_ids"] = dataset.labels, dataset.ids
        arrays[f"{prefix}_meta"] = np.array(json.dumps(_meta(dataset)))
    path.parent.mkdir(parents=True, exist_ok=True)
    # What `np.savez_compressed` writes, in a stronger compression that `np.load` reads as well.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return load_packed(path)


def load_packed(path: Path | str) -> dj.Splits:
    """Reads a packed file.

    Args:
        path: what `pack` wrote.

    Returns:
        The splits, with the ids, names, normalisation and fingerprints that were packed.

    Raises:
        ValueError: the data does not have the fingerprint that was packed with it.
    """
    with np.load(path, allow_pickle=False) as packed:
        return dj.Splits(*(_unpacked(packed, prefix) for prefix in dj.Splits._fields))


def encoded_images(name: str, data_dir: Path | None, dataset: dj.Dataset) -> Sequence[bytes] | None:
    """Returns the stored bytes of each image in dataset order, None where there are none."""
    if name.startswith("folder:"):
        return [Path(name.removeprefix("folder:"), file).expanduser().read_bytes() for file in dataset.ids]
    if name in ("digits", "cinic10"):
        return None
    from diet_jax.data.sources.tfds import stored_records

    readers = stored_records(name, data_dir, {}).open().readers
    reader = next(reader for reader in readers if reader.split == dataset.split)
    return [record.content for record in reader.records(np.arange(len(reader)))]


def _meta(dataset: dj.Dataset) -> dict[str, Any]:
    return {
        "class_names": dataset.class_names,
        "name": dataset.name,
        "split": dataset.split,
        "normalization": dataset.normalization,
        "id_source": dataset.id_source,
        "encoding": dataset.encoding,
        "channels": dataset.image_shape[-1],
        "fingerprint": dataset.fingerprint,
    }


def _unpacked(packed: Any, prefix: str) -> dj.Dataset:
    meta = json.loads(str(packed[f"{prefix}_meta"]))
    fingerprint, channels = meta.pop("fingerprint"), meta.pop("channels")
    meta["normalization"] = dj.Normalization(*map(tuple, meta["normalization"]))
    if f"{prefix}_pixels" in packed:
        images = packed[f"{prefix}_pixels"]
    else:
        images = _decoded(packed[f"{prefix}_encoded"], packed[f"{prefix}_lengths"], channels)
    dataset = dj.Dataset.from_arrays(images, packed[f"{prefix}_labels"], packed[f"{prefix}_ids"], **meta)
    if dataset.fingerprint != fingerprint:
        raise ValueError(
            f"the {prefix} split does not have the fingerprint it was packed with; if Pillow decodes JPEG "
            "differently here, pack with --pixels"
        )
    return dataset


def _decoded(encoded: np.ndarray, lengths: np.ndarray, channels: int) -> np.ndarray:
    from diet_jax.data.decode import decode
    from diet_jax.data.reader import Record, in_threads

    content, ends = encoded.tobytes(), np.cumsum(lengths)
    records = (
        Record(str(row), content[end - length : end], 0, None)
        for row, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True))
    )
    return np.stack(list(in_threads(lambda record: decode(record, channels), records)))


def main(options: Options) -> None:
    splits = pack(options.dataset, options.out, data_dir=options.data_dir, pixels=options.pixels)
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {len(splits.train)} and {len(splits.test)} examples in {size:.1f} MiB")


if __name__ == "__main__":
    # Imported here: `load_packed` is for machines without it.
    import tyro

    main(tyro.cli(Options))
