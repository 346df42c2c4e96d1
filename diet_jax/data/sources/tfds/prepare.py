"""Download public data sets and write them as TensorFlow Datasets would, without TensorFlow."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diet_jax.data.sources.tfds.archives import RECIPES
from diet_jax.data.sources.tfds.metadata import check_records, open_builder
from diet_jax.data.sources.tfds.names import PREPARABLE, parse_name, tensorflow_route, tfds_names, unknown
from diet_jax.data.sources.tfds.prepared import check_readable, find_prepared
from diet_jax.data.sources.tfds.write import write_prepared
from diet_jax.data.stored import data_folder
from diet_jax.devices.progress import Progress, say
from diet_jax.errors import InputError


class Archive(NamedTuple):
    """A file to download: its address, whose last part is its file name, and its SHA-256."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def prepare_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    quiet: bool,
    archives: Sequence[Archive] | None = None,
) -> Path:
    """Downloads a public data set and writes it as a TFDS directory; see `prepare_dataset`.

    `archives` says where the files are and their checksums; by default those that TFDS lists.
    """
    folder = data_folder(data_dir)
    if name not in PREPARABLE:
        raise _not_preparable(name, folder)
    from filelock import FileLock

    downloads = folder / "downloads" / name
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / "prepare.lock"):
            return _prepare(name, folder, downloads, archives, quiet)
    except OSError as error:
        raise InputError(f"data_dir {folder} cannot be written: {error}; give another data_dir") from error


def _prepare(
    name: str, folder: Path, downloads: Path, archives: Sequence[Archive] | None, quiet: bool
) -> Path:
    existing = find_prepared(name, folder)
    if existing is not None:
        check_readable(existing)
        check_records(existing, open_builder(existing), ("train", "test"))
        say(f"{name} is already prepared in {existing}", quiet=quiet)
        return existing
    recipe = RECIPES[name]
    found = {archive.file_name: archive for archive in archives or _public_archives(name)}
    missing = [file for file in recipe.files if file not in found]
    if missing:
        raise InputError(f"archives must give {', '.join(recipe.files)}; missing: {', '.join(missing)}")
    files = {file: _download(name, found[file], downloads, quiet) for file in recipe.files}
    try:
        contents = recipe.parse(files)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(f"the archives in {downloads} cannot be read: {error}; remove them") from error
    temporary = Path(tempfile.mkdtemp(prefix=f"incomplete.{name}.", dir=folder))
    try:
        total = sum(len(images) for images in contents.images.values())
        with Progress(f"writing {name}", total, quiet=quiet) as progress:
            written = write_prepared(name, contents, recipe.has_ids, temporary, progress)
        directory = folder / written.relative_to(temporary)
        directory.parent.mkdir(parents=True, exist_ok=True)
        os.replace(written, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"prepared {name} in {directory}: {total:,} images (the download stays in {downloads})", quiet=quiet)
    return directory


def _public_archives(name: str) -> list[Archive]:
    """The addresses and checksums that TFDS ships."""
    import tensorflow_datasets as tfds

    url_infos = tfds.builder_cls(name).url_infos or {}
    return [Archive(url, info.checksum) for url, info in url_infos.items()]


def _download(name: str, archive: Archive, downloads: Path, quiet: bool) -> Path:
    """Downloads a file unless it is there; it gets its name only once its checksum is right."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    path = downloads / archive.file_name
    try:
        if path.exists() and pooch.file_hash(str(path)) == archive.sha256:
            return path
        with Progress(f"downloading {archive.url}", quiet=quiet) as progress:
            # pooch's annotations allow less than its documentation.
            downloader: Any = pooch.HTTPDownloader(progressbar=progress)  # pyright: ignore[reportArgumentType]
            pooch.retrieve(
                archive.url, f"sha256:{archive.sha256}", path.name, downloads, downloader=downloader
            )
    except (requests.exceptions.RequestException, ValueError) as error:
        raise InputError(
            f"dataset {name!r} could not be downloaded from {archive.url} to {downloads}: {error}\n"
            f"  either try again, or fetch the file elsewhere and put it at {path}\n"
            f"  or point to a prepared copy: --data.data-dir DIR (reproduce: --data-dir, Python: data_dir=)"
        ) from error
    return path


def _not_preparable(name: str, folder: Path) -> InputError:
    if parse_name(name)[0] not in tfds_names():
        return unknown(name)
    return InputError(
        f"name {name!r} cannot be prepared without TensorFlow; only {', '.join(PREPARABLE)} can. "
        f"TensorFlow is needed once, to write it; reading needs none:\n  {tensorflow_route(name, folder)}"
    )
