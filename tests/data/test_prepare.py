"""Preparing public data sets: small archives of the same layout, served on this machine."""

import functools
import gc
import gzip
import hashlib
import http.server
import io
import logging
import tarfile
import threading

import numpy as np
import pytest

from diet_jax.data.sources import load_dataset, prepare_dataset
from diet_jax.data.sources.tfds import prepare
from diet_jax.data.sources.tfds.prepare import Archive
from diet_jax.errors import InputError

# pooch leaves the socket of a failed download to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100_NAMES = {
    "coarse_label": [f"coarse{i}" for i in range(20)],
    "label": [f"fine{i}" for i in range(100)],
}
TRAIN, TEST = 25, 7


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder to put archives in, their address, and the paths that were asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/cut/"):
                # A connection lost halfway: more is promised than is sent.
                content = (folder / self.path.removeprefix("/cut/")).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                return None
            return super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    ) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()
    gc.collect()  # here, where the warning of an open socket is ignored, and not in another test


def contents(name, seed=0):
    """Random images `[n h w ch]` and labels of both splits, as they should come back."""
    rng = np.random.default_rng(seed)
    shape, classes = ((32, 32, 3), 10) if "cifar" in name else ((28, 28, 1), 10)
    classes = 100 if name == "cifar100" else classes
    return {
        split: (rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, classes, n))
        for split, n in (("train", TRAIN), ("test", TEST))
    }


def serve(name, folder, url, arrays):
    """Writes archives byte by byte as their formats say, and returns their addresses and checksums."""
    if "cifar" in name:
        files = cifar_archive(name, arrays)
    else:
        files = {}
        for prefix, (images, labels) in zip(("train", "t10k"), arrays.values(), strict=True):
            n = len(labels).to_bytes(4, "big")
            header = b"\0\0\x08\x03" + n + (28).to_bytes(4, "big") * 2
            files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
            files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(
                b"\0\0\x08\x01" + n + bytes(labels.tolist())
            )
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return [Archive(f"{url}/{file}", hashlib.sha256(content).hexdigest()) for file, content in files.items()]


def cifar_archive(name, arrays):
    def records(split, rows):
        images, labels = arrays[split]
        coarse = (lambda label: bytes([label // 5])) if name == "cifar100" else (lambda label: b"")
        planes = [b"".join(images[r, :, :, c].tobytes() for c in range(3)) for r in rows]
        return b"".join(coarse(labels[r]) + bytes([labels[r]]) + p for r, p in zip(rows, planes, strict=True))

    if name == "cifar10":
        folder, archive = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
        files = {f"data_batch_{b + 1}.bin": records("train", range(5 * b, 5 * b + 5)) for b in range(5)}
        files |= {"test_batch.bin": records("test", range(TEST)), "readme.html": b""}
        files["batches.meta.txt"] = "\n".join([*CIFAR10_NAMES, "", ""]).encode()
    else:
        folder, archive = "cifar-100-binary", "cifar-100-binary.tar.gz"
        files = {"train.bin": records("train", range(TRAIN)), "test.bin": records("test", range(TEST))}
        files["coarse_label_names.txt"] = "\n".join([*CIFAR100_NAMES["coarse_label"], ""]).encode()
        files["fine_label_names.txt"] = "\n".join([*CIFAR100_NAMES["label"], ""]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return {archive: buffer.getvalue()}


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_tfds_reads_what_was_prepared(name, server, tmp_path, caplog):
    import tensorflow_datasets as tfds

    folder, url, _ = server
    arrays, data_dir = contents(name), tmp_path / "data"
    directory = prepare_dataset(
        name, data_dir=data_dir, quiet=True, archives=serve(name, folder, url, arrays)
    )
    version = str(tfds.builder_cls(name).VERSION)
    assert directory == data_dir / name / version
    with caplog.at_level(logging.INFO, "absl"):
        for split, (images, labels) in arrays.items():
            source = tfds.data_source(name, split=split, data_dir=data_dir, download=False)
            assert len(source) == len(labels)
            for i, row in enumerate(source):
                np.testing.assert_array_equal(row["image"], images[i])
                assert row["label"] == labels[i]
                if "cifar" in name:
                    assert row["id"] == f"{split}_{i:05d}".encode()
                else:
                    assert "id" not in row
                assert name != "cifar100" or row["coarse_label"] == labels[i] // 5
    assert "group size" not in caplog.text  # array_record complains unless records can be read one by one
    features = tfds.builder(name, data_dir=data_dir).info.features
    if name == "cifar100":
        assert {key: features[key].names for key in CIFAR100_NAMES} == CIFAR100_NAMES
    else:
        expected = {"cifar10": CIFAR10_NAMES, "mnist": list("0123456789")}
        assert features["label"].names[:1] == expected.get(name, ["T-shirt/top"])[:1]
    assert sorted(p.name for p in data_dir.iterdir()) == sorted(["downloads", name])


@pytest.mark.parametrize("name", ["cifar100", "mnist"])
def test_load_dataset_reads_what_was_prepared(name, server, tmp_path):
    folder, url, _ = server
    arrays = contents(name)
    prepare_dataset(name, data_dir=tmp_path, quiet=True, archives=serve(name, folder, url, arrays))
    for dataset, (split, (images, labels)) in zip(
        load_dataset(name, data_dir=tmp_path, quiet=True), arrays.items(), strict=True
    ):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.ids.tolist() == [f"{split}_{i:05d}" for i in range(len(labels))]
        assert dataset.num_classes == (100 if name == "cifar100" else 10)


def test_prepared_data_is_left_alone(server, tmp_path, capsys):
    folder, url, asked = server
    archives = serve("mnist", folder, url, contents("mnist"))
    directory = prepare_dataset("mnist", data_dir=tmp_path, archives=archives)
    assert "prepared mnist in" in capsys.readouterr().err
    before, count = {p: p.stat().st_mtime_ns for p in directory.iterdir()}, len(asked)
    assert prepare_dataset("mnist", data_dir=tmp_path, archives=archives) == directory
    captured = capsys.readouterr()
    assert captured.err == f"mnist is already prepared in {directory}\n"
    assert captured.out == ""
    assert len(asked) == count == 4
    assert before == {p: p.stat().st_mtime_ns for p in directory.iterdir()}


def test_quiet_prints_nothing(server, tmp_path, capsys):
    folder, url, _ = server
    prepare_dataset(
        "mnist", data_dir=tmp_path, quiet=True, archives=serve("mnist", folder, url, contents("mnist"))
    )
    assert capsys.readouterr() == ("", "")


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server, tmp_path):
    folder, url, _ = server
    (archive,) = serve("cifar10", folder, url, contents("cifar10"))
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        prepare_dataset(
            "cifar10", data_dir=tmp_path / "d", quiet=True, archives=[Archive(archive.url, "0" * 64)]
        )
    for part in ("'cifar10'", archive.url, str(tmp_path / "d" / "downloads" / "cifar10"), "data-dir"):
        assert part in str(caught.value)
    assert left(tmp_path / "d") == []


def test_an_interrupted_download_is_not_taken_for_a_complete_one(server, tmp_path):
    folder, url, asked = server
    arrays = contents("cifar10")
    (archive,) = serve("cifar10", folder, url, arrays)
    cut = Archive(f"{url}/cut/{archive.file_name}", archive.sha256)
    with pytest.raises(InputError, match="could not be downloaded"):
        prepare_dataset("cifar10", data_dir=tmp_path / "d", quiet=True, archives=[cut])
    assert left(tmp_path / "d") == []
    # What a killed process may leave behind under the right name is not trusted either.
    partial = tmp_path / "d" / "downloads" / "cifar10" / archive.file_name
    partial.write_bytes((folder / archive.file_name).read_bytes()[:1000])
    prepare_dataset("cifar10", data_dir=tmp_path / "d", quiet=True, archives=[archive])
    assert len(asked) == 2
    train = load_dataset("cifar10", data_dir=tmp_path / "d", quiet=True).train
    np.testing.assert_array_equal(train.images, arrays["train"][0])


def test_a_file_fetched_by_hand_is_used(server, tmp_path):
    folder, url, asked = server
    (archive,) = serve("cifar10", folder, url, contents("cifar10"))
    by_hand = tmp_path / "d" / "downloads" / "cifar10" / archive.file_name
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes((folder / archive.file_name).read_bytes())
    assert prepare_dataset("cifar10", data_dir=tmp_path / "d", quiet=True, archives=[archive]).is_dir()
    assert asked == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/cifar-10-binary.tar.gz", "{url}/missing/cifar-10-binary.tar.gz"]
)
def test_no_network_is_told(url, server, tmp_path):
    url = url.format(url=server[1])
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        prepare_dataset("cifar10", data_dir=tmp_path / "d", quiet=True, archives=[Archive(url, "0" * 64)])
    assert url in str(caught.value)
    assert left(tmp_path / "d") == []


def test_a_failure_while_writing_leaves_nothing(server, tmp_path, monkeypatch):
    folder, url, _ = server
    archives = serve("mnist", folder, url, contents("mnist"))

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("diet_jax.data.sources.tfds.write._png", full)
    with pytest.raises(InputError, match="No space left"):
        prepare_dataset("mnist", data_dir=tmp_path / "d", quiet=True, archives=archives)
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["downloads"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"\0\0\x0d\x03" + content[4:], "no IDX file"),
        (lambda content: content[:-1], "should have 19616 bytes unpacked"),
        pytest.param(
            lambda content: content[:7] + b"\x18" + content[8:-784],
            "24 images but 25 labels",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda content: b"", "no IDX file", marks=pytest.mark.slow),
    ],
)
def test_other_archives_are_refused(damage, message, server, tmp_path):
    folder, url, _ = server
    archives = serve("mnist", folder, url, contents("mnist"))
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(damage(gzip.decompress(file.read_bytes()))))
    archives[0] = Archive(archives[0].url, hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(InputError, match=message):
        prepare_dataset("mnist", data_dir=tmp_path, quiet=True, archives=archives)


def test_no_archive_at_all_is_refused(server, tmp_path):
    folder, url, _ = server
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    archive = Archive(f"{url}/cifar-10-binary.tar.gz", hashlib.sha256(b"no archive").hexdigest())
    with pytest.raises(InputError, match="cannot be read"):
        prepare_dataset("cifar10", data_dir=tmp_path, quiet=True, archives=[archive])
    with pytest.raises(InputError, match=r"missing: cifar-10-binary\.tar\.gz"):
        prepare_dataset("cifar10", data_dir=tmp_path, quiet=True, archives=[Archive(f"{url}/other.zip", "0")])


def test_the_public_archives_come_with_checksums():
    for name, recipe in prepare.RECIPES.items():
        archives = {a.file_name: a for a in prepare._public_archives(name)}
        for file in recipe.files:
            assert archives[file].url.startswith("http")
            assert len(bytes.fromhex(archives[file].sha256)) == 32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "ships with scikit-learn"),
        ("cinic10", "image folders"),
        ("folder:x", "image folders"),
        (
            "svhn_cropped",
            r"pip install 'diet_jax\[tensorflow\]'.*'svhn_cropped'.*'file_format': 'array_record'",
        ),
        ("cifar11", "Did you mean.*'cifar10'"),
    ],
)
def test_other_names_are_refused_with_a_way_out(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare_dataset(name, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data_dir .* cannot be written"):
        prepare_dataset("mnist", data_dir=tmp_path / "file" / "data")


def left(data_dir):
    """What lies in a data folder, except the lock and the folders on the way to it."""
    return [p for p in data_dir.rglob("*") if p.is_file() and p.suffix != ".lock"]
