"""Score files of other programs: built here from their published layouts, read, and what is refused."""

import csv
import hashlib
import json
import pickle

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.scores.formats.format import FORMATS, peek, recognised
from diet_jax.scores.formats.identity import class_sorted, tfds_order

COUNT = 60
NAMES = ("cat", "dog", "owl")


class World:
    """Examples in the order of their original files, what they score, and a dataset in another order."""

    def __init__(self, ids=None, **about):
        rng = np.random.default_rng(4)
        self.labels = rng.integers(0, 3, COUNT)
        self.values = np.round(rng.normal(size=COUNT), 3)
        self.ids = [f"train_{place:05d}" for place in range(COUNT)] if ids is None else ids
        self.shuffled = rng.permutation(COUNT)
        inputs, given = rng.normal(size=(COUNT, 2)), np.array(self.ids)[self.shuffled]
        about = {"name": "cifar10", "class_names": NAMES, **about}
        labels = self.labels[self.shuffled]
        self.dataset = dj.Dataset.from_arrays(inputs[self.shuffled], labels, given, **about)
        self.lines = rng.permutation(COUNT)

    def expected(self, values):
        return np.float32(values)[self.shuffled]


CIFAR = World()
IMAGES = [f"n{1440764 + place % 3:08d}_{17 * place + 3}" for place in range(COUNT)]
IMAGENET = World([f"train/{name[:9]}/{name}.JPEG" for name in IMAGES], name="imagenet2012")


def write_csv(path, header, lines):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def by_quicksort(values):
    """Rows in the order of a quicksort by the median of three, with insertion up to 16 values."""
    rows, parts = list(range(len(values))), [(0, len(values) - 1)]

    def swap(a, b):
        rows[a], rows[b] = rows[b], rows[a]

    def at(place):
        return values[rows[place]]

    while parts:
        low, high = parts.pop()
        if high - low <= 15:
            for place in range(low + 1, high + 1):
                row = rows[place]
                while place > low and values[row] < at(place - 1):
                    rows[place] = rows[place - 1]
                    place -= 1
                rows[place] = row
            continue
        middle = low + (high - low) // 2
        for first, second in ((low, middle), (middle, high), (low, middle)):
            if at(second) < at(first):
                swap(first, second)
        pivot, left, right = at(middle), low, high - 1
        swap(middle, right)
        while True:
            left += 1
            while at(left) < pivot:
                left += 1
            right -= 1
            while pivot < at(right):
                right -= 1
            if left >= right:
                break
            swap(left, right)
        swap(left, high - 1)
        parts += [(low, left - 1), (left + 1, high)]
    return np.array(rows)


def authors_order():
    """TFDS's order of the original numbers, then the authors' sort by class."""
    order = sorted(range(COUNT), key=lambda place: hashlib.md5(f"train{place}".encode()).hexdigest())
    return np.array(order)[by_quicksort(CIFAR.labels[order])]


def data_diet(folder):
    path = folder / "error_l2_norm_scores" / "ckpt_3910.npy"
    path.parent.mkdir()
    np.save(path, CIFAR.values[authors_order()])
    return path


def aum(folder):
    lines = [(CIFAR.ids[place], CIFAR.values[place]) for place in np.argsort(-CIFAR.values)]
    return write_csv(folder / "aum_values.csv", ("sample_id", "aum"), lines)


def aum_records(folder):
    logits = [f"{which}_{what}" for which in ("target", "other") for what in ("logit", "val")]
    header = ["sample_id", "num_measurements", *logits, "margin", "aum"]
    lines = [
        (CIFAR.ids[p], count, 1, 0.5, 2, 0.1, 0.4, CIFAR.values[p] + (count < 3))
        for p in CIFAR.lines
        for count in (1, 2, 3)
    ]
    return write_csv(folder / "full_aum_records.csv", header, lines)


def geirhos(folder):
    lines = [(f"{IMAGES[place]}.JPEG", IMAGENET.values[place]) for place in IMAGENET.lines]
    return write_csv(folder / "forgetting.csv", ("image", "forgetting"), lines)


def logits():
    return np.random.default_rng(6).normal(size=(4, COUNT, 3))


def dynamics(folder):
    inner = folder / "training_dynamics"
    inner.mkdir()
    for epoch, values in enumerate(logits()):
        order = np.random.default_rng(epoch).permutation(COUNT)
        lines = [
            {"guid": CIFAR.ids[p], f"logits_epoch_{epoch}": values[p].tolist(), "gold": int(CIFAR.labels[p])}
            for p in order
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (inner / f"dynamics_epoch_{epoch}.jsonl").write_text(text)
    return folder


def confidence():
    shares = np.exp(logits()) / np.exp(logits()).sum(axis=-1, keepdims=True)
    return shares[:, np.arange(COUNT), CIFAR.labels]


def data_map(folder):
    path = folder / "coordinates.jsonl"
    lines = [
        {
            "guid": CIFAR.ids[p],
            "index": i,
            "confidence": CIFAR.values[p],
            "variability": 0.1,
            "correctness": 2,
        }
        for i, p in enumerate(CIFAR.lines)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def memorisation(folder):
    arrays = {"tr_labels": CIFAR.labels, "tr_mem": CIFAR.values, "tt_labels": np.arange(6) % 3}
    for label in range(3):
        rows = np.flatnonzero(CIFAR.labels == label)
        arrays[f"tr_classidx_{label}"], arrays[f"tt_classidx_{label}"] = rows, np.array([label, label + 3])
        arrays[f"infl_matrix_class{label}"] = influence()[rows]
    np.savez(folder / "cifar100_infl_matrix.npz", **arrays)
    return folder / "cifar100_infl_matrix.npz"


def influence():
    return np.random.default_rng(7).normal(size=(COUNT, 2))


def memorisation_by_name(folder):
    names = np.array([f"{name}.JPEG".encode() for name in IMAGES])[IMAGENET.lines]
    labels, values = IMAGENET.labels[IMAGENET.lines], IMAGENET.values[IMAGENET.lines]
    np.savez(folder / "imagenet_index.npz", tr_filenames=names, tr_labels=labels, tr_mem=values)
    return folder / "imagenet_index.npz"


def c_scores(folder):
    np.savez(folder / "c.npz", labels=CIFAR.labels, scores=CIFAR.values)
    return folder / "c.npz"


def c_scores_by_name(folder):
    names = np.array([f"{name}.JPEG".encode() for name in IMAGES])
    np.savez(folder / "c.npz", labels=IMAGENET.labels, scores=IMAGENET.values, filenames=names)
    return folder / "c.npz"


def plain_csv(folder):
    lines = [(NAMES[CIFAR.labels[p]], CIFAR.ids[p], CIFAR.values[p]) for p in CIFAR.lines]
    return write_csv(folder / "mine.csv", ("class", "id", "my score"), lines)


def places_csv(folder):
    return write_csv(folder / "mine.csv", ("index", "x"), [(p, CIFAR.values[p]) for p in CIFAR.lines])


def ours(folder):
    file = dj.ScoreFile.from_seeds("mine", CIFAR.expected(CIFAR.values), CIFAR.dataset, step=3)
    file.to_csv(folder / "ours.csv")
    return folder / "ours.csv"


def npy(folder):
    np.save(folder / "a.npy", np.stack([CIFAR.values, CIFAR.values + 1]))
    return folder / "a.npy"


EASY, ORIGINAL = {"high_means": "easy"}, {"order": "original"}
# The format, what builds a file, how it is asked for, and its scores in the original order: high means hard.
CASES = {
    "data_diet": ("data_diet", data_diet, {}, CIFAR, {"el2n": CIFAR.values}),
    "aum": ("aum", aum, {}, CIFAR, {"aum": -CIFAR.values}),
    "aum, full records": ("aum", aum_records, {}, CIFAR, {"aum": -CIFAR.values}),
    "geirhos": ("geirhos", geirhos, {}, IMAGENET, {"forgetting": IMAGENET.values}),
    "cartography": (
        "cartography",
        dynamics,
        {},
        CIFAR,
        {
            "confidence": -confidence().mean(axis=0),
            "variability": confidence().std(axis=0),
            "correctness": -(logits().argmax(axis=-1) == CIFAR.labels).sum(axis=0),
        },
    ),
    "cartography, measures": (
        "cartography",
        data_map,
        {},
        CIFAR,
        {"confidence": -CIFAR.values, "variability": np.full(COUNT, 0.1), "correctness": np.full(COUNT, -2)},
    ),
    "feldman_zhang": (
        "feldman_zhang",
        memorisation,
        {},
        CIFAR,
        {
            "memorisation": CIFAR.values,
            "influence_max": influence().max(axis=1),
            "influence_sum_abs": np.abs(influence()).sum(axis=1),
        },
    ),
    "feldman_zhang, names": (
        "feldman_zhang",
        memorisation_by_name,
        {},
        IMAGENET,
        {"memorisation": IMAGENET.values},
    ),
    "c_scores": ("c_scores", c_scores, {}, CIFAR, {"c_score": -CIFAR.values}),
    "c_scores, names": ("c_scores", c_scores_by_name, {}, IMAGENET, {"c_score": -IMAGENET.values}),
    "csv": ("csv", plain_csv, EASY, CIFAR, {"my_score": -CIFAR.values}),
    "csv, places": ("csv", places_csv, {**EASY, **ORIGINAL}, CIFAR, {"x": -CIFAR.values}),
    "csv, ours": ("csv", ours, {}, CIFAR, {"score": CIFAR.values}),
    "npy": (
        "npy",
        npy,
        {"source": "npy", "high_means": "hard", **ORIGINAL},
        CIFAR,
        {"score": CIFAR.values + 0.5},
    ),
}


def test_every_format_has_a_case():
    assert {case[0] for case in CASES.values()} == set(FORMATS.names())


@pytest.mark.parametrize("case", CASES)
def test_scores_are_joined_to_the_examples_and_high_means_hard(case, tmp_path, capsys):
    name, build, asked, world, scores = CASES[case]
    path = build(tmp_path)
    if name != "npy":
        assert recognised(peek(path)).name == name
    files = dj.import_scores(path, world.dataset, **asked)
    assert set(files) == set(scores)
    for score, file in files.items():
        np.testing.assert_allclose(file.scores, world.expected(scores[score]), rtol=1e-6)
        np.testing.assert_array_equal(file.ids, world.dataset.ids)
        source = file.provenance["source"]
        assert source["format"] == name
        assert source["turned"] == (source["high_meant"] == "easy")
        assert file.high_means == ("ambiguous" if score == "variability" else "hard")
        assert file.provenance["definition"].startswith("minus ") == source["turned"]
        file.save(tmp_path / "again.npz")
        assert dj.ScoreFile.load(tmp_path / "again.npz", dataset=world.dataset).provenance == file.provenance
    said = capsys.readouterr().err
    assert said.count("high means") == 2 * said.count("so that high means hard") + said.count("as they are")


def test_the_steps_of_the_authors_files_are_known(tmp_path):
    files = dj.import_scores(data_diet(tmp_path), CIFAR.dataset)
    assert files["el2n"].step == 3910
    assert "nothing to check it by" in files["el2n"].provenance["source"]["matched"]
    assert dj.import_scores(aum(tmp_path), CIFAR.dataset)["aum"].when == "step unknown"


def test_tfds_order_is_that_of_the_published_dataset():
    """The first ids that TFDS shows of cifar10 3.0.2, wherever the dataset here has them."""
    ids = np.random.default_rng(0).permutation([f"train_{place:05d}" for place in range(50_000)])
    dataset = dj.Dataset.from_arrays(np.zeros((50_000, 1)), np.arange(50_000) % 10, ids, name="cifar10")
    first = dataset.ids[tfds_order(dataset, "it")[:5]].tolist()
    assert first == ["train_16399", "train_01680", "train_47917", "train_17307", "train_27051"]


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_sort_by_class_is_that_of_a_quicksort(classes):
    labels = np.random.default_rng(classes).integers(0, classes, 2000)
    np.testing.assert_array_equal(class_sorted(labels), by_quicksort(labels))
    assert (class_sorted(labels) != np.argsort(labels, kind="stable")).any()


def change_csv(change):
    def build(folder):
        path = aum(folder)
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, *change(lines)]) + "\n")
        return path

    return build


def truncated(build, keep=0.5):
    def cut(folder):
        path = build(folder)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        return path

    return cut


def saved(name, **arrays):
    def build(folder):
        if name.endswith(".npy"):
            np.save(folder / name, *arrays.values())
        else:
            np.savez(folder / name, **arrays)
        return folder / name

    return build


def text(name, content):
    def build(folder):
        (folder / name).write_text(content)
        return folder / name

    return build


def without_an_epoch(folder):
    (dynamics(folder) / "training_dynamics" / "dynamics_epoch_1.jsonl").unlink()
    return folder


def cut_epoch(folder):
    path = dynamics(folder) / "training_dynamics" / "dynamics_epoch_1.jsonl"
    path.write_text(path.read_text()[:-20])
    return folder


def stray_epoch(folder):
    (dynamics(folder) / "training_dynamics" / "dynamics_epoch_x.jsonl").write_text("{}")
    return folder


def empty_epoch(folder):
    (dynamics(folder) / "training_dynamics" / "dynamics_epoch_3.jsonl").write_text("")
    return folder


def pickled(folder):
    (folder / "a.npy").write_bytes(pickle.dumps(CIFAR.values))
    return folder / "a.npy"


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


OBJECTS = np.array([Trap()] * COUNT, object)
NPY = {"source": "npy", "order": "rows", "high_means": "hard"}
PAIR = ((1, "0.0, 1.0"), (2, "0.0, 1.0, 2.0"))
REFUSED = {
    "an id is dropped": (change_csv(lambda lines: lines[1:]), {}, "1 of 60 ids are missing"),
    "an id is doubled": (change_csv(lambda lines: [*lines, lines[0]]), {}, "1 ids occur more than once"),
    "an id is altered": (
        change_csv(lambda lines: ["x" + lines[0], *lines[1:]]),
        {},
        r"1 of 60 ids are missing \('train_\d+'\); 1 ids are others \('xtrain_\d+'\)",
    ),
    "NaN": (change_csv(lambda lines: [lines[0].split(",")[0] + ",nan", *lines[1:]]), {}, "NaN for 1 of 60"),
    "no number": (change_csv(lambda lines: [lines[0] + "e", *lines[1:]]), {}, "holds no numbers"),
    "ragged": (change_csv(lambda lines: [*lines[:-1], "a,1,2"]), {}, "line 61 of .* has 3 values"),
    "no lines": (change_csv(lambda lines: []), {}, "a line for each example"),
    "empty": (text("a.csv", ""), {}, "is empty"),
    "other columns": (
        text("a.csv", "name,score\na,1\n"),
        {},
        r"is of no known format \(name, score\).*geirhos: ",
    ),
    "other columns, said": (text("a.csv", "name,aum\na,1\n"), {"source": "csv"}, "has no column of ids"),
    "no direction": (plain_csv, {}, "say --high-means"),
    "labels of a table": (
        text("a.csv", "id,class,s\n" + "".join(f"{name},cat,1\n" for name in CIFAR.ids)),
        EASY,
        r"\d+ of 60 labels are not those of cifar10, first that of train_",
    ),
    "an npy that may be two": (npy, {}, "may be of 2 formats.*data_diet: .*npy: "),
    "an npy of another count": (saved("a.npy", x=np.zeros(59)), NPY, "59 scores, cifar10/train has 60"),
    "an npy of text": (saved("a.npy", x=np.zeros(60, "U1")), NPY, "<U1"),
    "an npy of three axes": (saved("a.npy", x=np.zeros((1, 1, 60))), NPY, "not one score per example"),
    "an npy of objects": (saved("a.npy", x=OBJECTS), NPY, "never loaded"),
    "a pickle": (pickled, NPY, "line 1 of|no CSV file|never loaded"),
    "half an npy": (truncated(npy), NPY, "is damaged"),
    "half an npz": (truncated(c_scores), {}, "damaged .npz"),
    "an npz of objects": (saved("c.npz", scores=OBJECTS, labels=CIFAR.labels), {}, "never loaded"),
    "other labels": (
        saved("c.npz", scores=CIFAR.values, labels=CIFAR.labels[::-1]),
        {},
        "labels are not those of cifar10.*in another order",
    ),
    "other counts": (saved("c.npz", scores=CIFAR.values[1:], labels=CIFAR.labels[1:]), {}, "59 scores"),
    "unequal counts": (
        saved("c.npz", scores=CIFAR.values, labels=CIFAR.labels[1:]),
        {},
        r"60 scores and \(59,\)",
    ),
    "other arrays": (saved("c.npz", a=CIFAR.values), {}, "is of no known format"),
    "a matrix that does not fit": (
        saved("m.npz", tr_mem=CIFAR.values, infl_matrix_class0=influence(), tr_classidx_0=np.arange(3)),
        {},
        "does not fit tr_classidx_0",
    ),
    "the authors', another count": (
        saved("a.npy", x=np.zeros(59)),
        {"source": "data_diet"},
        "of the 60 examples",
    ),
    "an epoch is missing": (without_an_epoch, {}, r"epochs 0 to 3, each once; it has \[0, 2, 3\]"),
    "half a line": (cut_epoch, {}, "line 60 of .*dynamics_epoch_1.jsonl is damaged"),
    "other keys": (text("a.jsonl", '{"guid": 1}\n'), {}, "is of no known format"),
    "gold out of range": (
        text("a.jsonl", '{"guid": 1, "gold": 3, "logits_epoch_0": [0.0, 1.0]}\n'),
        {},
        "line 1 of .*gold 3 with logits",
    ),
    "gold of another type": (
        text("a.jsonl", '{"guid": 1, "gold": 0.7, "logits_epoch_0": [0.0, 1.0]}\n'),
        {},
        "gold 0.7 with logits",
    ),
    "gold as a truth value": (
        text("a.jsonl", '{"guid": 1, "gold": true, "logits_epoch_0": [0.0, 1.0]}\n'),
        {},
        "gold True with logits",
    ),
    "two epochs in a line": (
        text(
            "a.jsonl", '{"guid": 1, "gold": 0, "logits_epoch_0": [0.0, 1.0], "logits_epoch_1": [0.0, 1.0]}\n'
        ),
        {},
        "line 1 of .* logits of one epoch",
    ),
    "logits of two lengths": (
        text("a.jsonl", "".join(f'{{"guid": {n}, "gold": 0, "logits_epoch_0": [{z}]}}\n' for n, z in PAIR)),
        {},
        "line 2 of .* of 2 classes",
    ),
    "guids of two kinds": (
        text("a.jsonl", '{"guid": 1, "confidence": 0.5}\n{"guid": "1", "confidence": 0.5}\n'),
        {},
        "guids must be all text or all integers",
    ),
    "guids that are lists": (
        text("a.jsonl", '{"guid": [1], "gold": 0, "logits_epoch_0": [0.0, 1.0]}\n'),
        {},
        "guids must be all text or all integers",
    ),
    "a stray epoch": (stray_epoch, {}, "dynamics_epoch_x.jsonl is of no epoch"),
    "an empty epoch": (empty_epoch, {}, "dynamics_epoch_3.jsonl is empty"),
    "a number as Python writes it": (
        change_csv(lambda lines: [lines[0].split(",")[0] + ",1_0", *lines[1:]]),
        {},
        "holds no numbers",
    ),
    "a table of ids alone": (text("a.csv", "id\na\n"), EASY, "has no column of scores; it has id"),
    "a column that is not there": (plain_csv, {**EASY, "column": "q"}, "has no column q; it has"),
    "names of files that are no text": (
        saved("c.npz", scores=CIFAR.values, labels=CIFAR.labels, filenames=np.array([b"\xff"] * COUNT)),
        {},
        "names of files are no UTF-8",
    ),
    "a matrix without test examples": (
        saved("m.npz", tr_mem=CIFAR.values, infl_matrix_class0=np.ones((3, 0)), tr_classidx_0=np.arange(3)),
        {},
        "does not fit tr_classidx_0",
    ),
    "a matrix of text": (
        saved(
            "m.npz", tr_mem=CIFAR.values, infl_matrix_class0=np.full((3, 1), "a"), tr_classidx_0=np.arange(3)
        ),
        {},
        "does not fit tr_classidx_0",
    ),
    "images, and two columns": (
        text("i.csv", "img,a,b\nn01440764_1.JPEG,1,2\n"),
        {},
        r"has the columns img, a, b, .*--column",
    ),
    "images without a header": (
        text("i.csv", "n01440764_1.JPEG,1\nn01440764_2.JPEG,2\n"),
        {},
        "have a header",
    ),
    "images, and no score": (text("i.csv", "img\nn01440764_1.JPEG\n"), {}, "has no column of scores"),
    "aum without its column": (plain_csv, {"source": "aum"}, "has no column aum nor sample_id"),
    "aum, told a column": (aum, {"column": "margin"}, "the format aum .* leaves no choice of column"),
    "aum, told a direction": (aum, {"high_means": "hard"}, "leaves no choice of high_means"),
    "a table of another kind": (c_scores, {"source": "csv"}, "is of the kind npz, the format csv is CSV"),
    "an npz of other arrays, said": (
        saved("c.npz", a=CIFAR.values),
        {"source": "c_scores"},
        "has no array scores",
    ),
    "an npz without memorisation": (
        saved("c.npz", a=CIFAR.values),
        {"source": "feldman_zhang"},
        "no array tr_mem",
    ),
    "an npz for the authors' npy": (
        saved("c.npz", a=CIFAR.values),
        {"source": "data_diet"},
        "of the kind npz",
    ),
    "no file": (lambda folder: folder / "none.csv", {}, "no file"),
    "an empty folder": (lambda folder: folder, {}, "without files dynamics_epoch"),
    "an unknown format": (aum, {"source": "aun"}, "did you mean 'aum'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_as_published_is_refused(case, tmp_path):
    build, asked, message = REFUSED[case]
    with pytest.raises(dj.InputError, match=message):
        dj.import_scores(build(tmp_path), CIFAR.dataset, **asked)


def test_orders_that_ids_do_not_tell_are_refused(tmp_path):
    with pytest.raises(dj.InputError, match="do not tell; say --order rows"):
        dj.import_scores(c_scores(tmp_path), IMAGENET.dataset)
    other = World(name="mine").dataset
    with pytest.raises(dj.InputError, match="known of cifar10 and cifar100"):
        dj.import_scores(data_diet(tmp_path), other)
    with pytest.raises(dj.InputError, match=r"leave out --data\.num-train"):
        dj.import_scores(aum(tmp_path), CIFAR.dataset.take(np.arange(5)))
