"""DynamicsLog in loops of others: the scores of the training scan, ids, files, whole paths, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.scores.moments import EL2NSumOptions
from diet_jax.scores.score import SCORES
from diet_jax.training.recipe import total_steps
from diet_jax.training.step import batch_rows, run_keys

COUNT, CLASSES, BATCH = 50, 3, 12
CONFIG = dj.TrainConfig(
    epochs=5,
    batch_size=BATCH,
    learning_rate=0.3,
    momentum=0.0,
    nesterov=False,
    weight_decay=0.0,
    decay_at=(),
    augment="none",
)
KEYS = dj.seed_keys(0, "score", 2)
OF_TRAINING = tuple(s.name for s in SCORES if s.fold is not None and s.fold.measure is None)
CLEAN = tuple(s.name for s in SCORES if s.fold is not None and s.fold.of_logits)


def linear(params, inputs):
    return inputs.reshape(len(inputs), -1) @ params


MODEL = dj.from_functions(lambda key, shape: jnp.zeros((int(np.prod(shape)), CLASSES)), linear)


def softmax_regression(data, key, kept, log, clean):
    """Softmax regression in NumPy, float64, in the library's own order, with both logs in its loop."""
    inputs = np.asarray(dj.normalized_inputs(data), np.float64).reshape(len(data), -1)
    weights, targets = np.zeros((inputs.shape[1], CLASSES)), np.eye(CLASSES)[data.labels]
    steps, per_epoch = total_steps(CONFIG, COUNT, len(kept)), len(kept) // BATCH
    order = batch_rows(run_keys(key).order, kept, 0, num_steps=steps, batch_size=BATCH)
    for step, rows in enumerate(np.asarray(order), start=1):
        logits = inputs[rows] @ weights
        log.update(rows, logits, data.labels[rows])
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = shares / shares.sum(axis=1, keepdims=True) - targets[rows]
        weights -= CONFIG.learning_rate * inputs[rows].T @ error / BATCH
        if step % per_epoch == 0:
            clean.update(np.arange(len(data)), inputs @ weights, data.labels)


@pytest.mark.parametrize(("how", "pruned"), [("vmap", False), ("loop", True)])
def test_a_loop_in_numpy_gives_the_scores_of_the_training_scan(train_split, how, pruned):
    keep = np.arange(COUNT) % 3 > 0 if pruned else np.ones(COUNT, bool)
    kept = np.flatnonzero(keep).astype(np.int32)
    options = {"config": CONFIG, "names": (*OF_TRAINING, *CLEAN), "keep": keep}
    step = total_steps(CONFIG, COUNT, len(kept))
    found = dj.score_ensemble(KEYS, MODEL, train_split, step=step, how=how, **options).scores
    log, clean = dj.DynamicsLog(COUNT, CLASSES), dj.DynamicsLog(COUNT, CLASSES, scores=CLEAN)
    softmax_regression(train_split, KEYS[1], kept, log, clean)
    for name, expected in (log.scores() | clean.scores()).items():
        assert np.isnan(found[name][:, ~keep]).all()
        np.testing.assert_allclose(found[name][1, keep], expected[keep], rtol=1e-3, atol=2e-4, err_msg=name)


def test_a_loop_in_pytorch(train_split):
    torch = pytest.importorskip("torch")
    inputs = torch.tensor(np.asarray(dj.normalized_inputs(train_split))).reshape(COUNT, -1)
    labels = torch.tensor(train_split.labels, dtype=torch.long)
    network = torch.nn.Linear(inputs.shape[1], CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    log, margins = dj.DynamicsLog(COUNT, CLASSES, scores=("aum",)), np.zeros(COUNT)
    for _ in range(3):
        for rows in torch.randperm(COUNT).split(20):
            logits = network(inputs[rows])
            log.update(rows, logits, labels[rows])
            torch.nn.functional.cross_entropy(logits, labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            own = logits.detach().gather(1, labels[rows, None])
            other = logits.detach().scatter(1, labels[rows, None], -torch.inf).amax(1, keepdim=True)
            margins[rows.numpy()] += (own - other).numpy()[:, 0]
    np.testing.assert_allclose(log.scores()["aum"], -margins / 3, rtol=1e-4, atol=1e-5)


def logged(rows, labels, *, seed=0, times=4, **options):
    """A log of random logits, in batches of different sizes, and those logits float32 [t n c]."""
    rng = np.random.default_rng(seed)
    log = dj.DynamicsLog(len(rows), CLASSES, **options)
    logits = rng.normal(size=(times, len(rows), CLASSES)).astype(np.float32)
    for time in range(times):
        order = rng.permutation(len(rows))
        for part in (order[:5], order[5:7], order[7:]):
            log.update([rows[i] for i in part], logits[time, part], labels[part])
    return log, logits


def test_text_ids_name_examples_and_files_are_joined_by_them(tmp_path):
    ids = [f"img_{n}" for n in range(9)]
    labels = np.arange(9, dtype=np.int32) % CLASSES
    log, logits = logged(ids, labels, ids=ids, scores=("aum", "variability"))
    turned = dj.Dataset.from_arrays(np.zeros((9, 2)), labels[::-1], ids[::-1], num_classes=CLASSES)
    file = log.score_files(turned, step=7, loop="my own")["variability"]
    file.save(tmp_path / "variability.npz")
    file = dj.ScoreFile.load(tmp_path / "variability.npz", dataset=turned)
    own = np.exp(-np.asarray(dj.cross_entropy(logits.reshape(-1, CLASSES), np.tile(labels, 4)))).reshape(4, 9)
    np.testing.assert_allclose(file.scores, own.std(axis=0)[::-1], rtol=1e-4, atol=1e-6)
    assert file.step == 7
    with pytest.raises(dj.InputError, match="ids are not among those"):
        log.score_files(dj.Dataset.from_arrays(np.zeros((9, 2)), labels, num_classes=CLASSES), step=7)
    rows, _ = logged(list(range(9)), labels, scores=("aum",))
    with pytest.raises(dj.InputError, match=r"labels are not those of the dataset, first in row 0"):
        rows.score_files(turned, step=7)
    with pytest.raises(dj.InputError, match="dataset has 3 examples, the log 9"):
        rows.score_files(dj.Dataset.from_arrays(np.zeros((3, 2)), [0, 1, 2]), step=7)


def test_whole_paths_are_kept_on_disk(tmp_path):
    labels = np.arange(9, dtype=np.int32) % CLASSES
    path = tmp_path / "a folder" / "logits.npy"
    log, logits = logged(list(range(9)), labels, path=path, scores=("mean_loss",))
    log.update([4], [[1e9, 0.0, -1e9]], labels[[4]])
    paths = log.paths()
    assert isinstance(paths, np.memmap)
    np.testing.assert_array_equal(paths, np.load(path))
    np.testing.assert_array_equal(paths[:4], logits.astype(np.float16))
    np.testing.assert_array_equal(paths[4, 4], np.float16([65504, 0, -65504]))
    assert np.isnan(np.delete(np.asarray(paths[4]), 4, axis=0)).all()
    losses = log.losses()
    others = np.arange(9) != 4
    np.testing.assert_allclose(losses[:4].mean(axis=0)[others], log.scores()["mean_loss"][others], rtol=1e-2)
    with pytest.raises(dj.InputError, match="is there already"):
        dj.DynamicsLog(9, CLASSES, path=path)
    with pytest.raises(dj.InputError, match="make it with path="):
        dj.DynamicsLog(9, CLASSES).paths()


def test_cld_is_the_correlation_with_the_held_out_examples_of_the_class(unchecked_types):
    rng = np.random.default_rng(3)
    losses, held = rng.normal(size=(6, 11)), rng.normal(size=(6, 7))
    labels, held_labels = np.arange(11) % 4, np.arange(7) % 3
    losses[:, 2] = 1.5
    found = dj.cld_scores(losses, labels, held, held_labels)
    for row in range(11):
        others = held[:, held_labels == labels[row]]
        if row == 2 or not others.size:
            assert np.isnan(found[row])
        else:
            direction = np.diff(others.mean(axis=1))
            expected = np.corrcoef(np.diff(losses[:, row]), direction)[0, 1]
            np.testing.assert_allclose(found[row], expected, rtol=1e-5)
    with pytest.raises(dj.InputError, match="of the same times"):
        dj.cld_scores(losses[1:], labels, held, held_labels)
    with pytest.raises(dj.InputError, match="3 times or more, got 2"):
        dj.cld_scores(losses[:2], labels, held[:2], held_labels)


GOOD = ([0, 1], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1])


@pytest.mark.parametrize(
    ("ids", "logits", "labels", "message"),
    [
        ([0, 9], GOOD[1], GOOD[2], "from 0 to 8"),
        ([1, 1], GOOD[1], GOOD[2], "ids must be distinct"),
        (["a", "b"], GOOD[1], GOOD[2], "ids must be integers"),
        ([0, 1], [[1.0, 0.0], [0.0, 1.0]], GOOD[2], r"logits must be floats \[2, 3\]"),
        (
            [0, 1],
            [GOOD[1][0], [0.0, np.nan, 0.0]],
            GOOD[2],
            "infinite for 1 of 2 examples, first for row 1",
        ),
        ([0, 1], GOOD[1], [0, 3], "labels must go from 0 to 2, got 0 to 3"),
        ([0, 1], GOOD[1], [0.0, 1.0], r"labels must be integers \[2\]"),
        ([0, 1], [[1e300, 0.0, 0.0]] * 2, GOOD[2], "infinite for 2 of 2 examples"),
        ([0, 1], GOOD[1], [1, 1], "the label of row 0 was 0 before and is 1 now"),
    ],
)
def test_what_is_refused_changes_nothing(ids, logits, labels, message):
    log = dj.DynamicsLog(9, CLASSES, scores=("aum",))
    log.update(*GOOD)
    with pytest.raises(dj.InputError, match=message):
        log.update(ids, logits, labels)
    np.testing.assert_array_equal(log.scores()["aum"][:3], [-1, -1, np.nan])


@pytest.mark.parametrize("ids", [[], [["a", "b"]], "ab", np.zeros(0, "U1")])
def test_ids_of_a_batch_are_one_vector(ids):
    log = dj.DynamicsLog(3, CLASSES, scores=("aum",), ids=["a", "b", "ab"])
    with pytest.raises(dj.InputError, match="ids must be a vector of at least one id, got shape"):
        log.update(ids, np.zeros((2, 3)), [0, 1])


@pytest.mark.parametrize("ids", ["abc", [0.5, 1.5, 2.5], [b"a", b"b", b"c"], [["a"], ["b"], ["c"]]])
def test_ids_of_a_log_are_integers_or_text(ids):
    with pytest.raises(dj.InputError, match=r"ids must be integers or text \[3\], got"):
        dj.DynamicsLog(3, CLASSES, ids=ids)


@pytest.mark.parametrize("kind", ["rows", "text", "text and paths"])
def test_a_killed_loop_goes_on_from_what_it_saved(kind, tmp_path):
    """Saved in the middle of an epoch, more is logged, and lost; the rest is logged again by another log."""
    rng = np.random.default_rng(5)
    count, epochs = 9, 12
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    ids = list(range(count)) if kind == "rows" else [f"ä{n}" for n in range(count)]
    logits = rng.normal(size=(epochs, count, CLASSES)).astype(np.float32)
    batches = [(e, part) for e in range(epochs) for part in np.split(rng.permutation(count), [4, 8])]
    given = {} if kind == "rows" else {"ids": ids}

    def go(log, some):
        for epoch, part in some:
            log.update([ids[i] for i in part], logits[epoch, part], labels[part])
        return log

    def path(name):
        return {"path": tmp_path / name} if kind == "text and paths" else {}

    whole = go(dj.DynamicsLog(count, CLASSES, **given, **path("whole.npy")), batches)
    log = go(dj.DynamicsLog(count, CLASSES, **given, **path("part.npy")), batches[:20])
    log.save(tmp_path / "log.npz")
    go(log, batches[20:26])  # Logged after the last save: the killed process takes it along.
    again = dj.DynamicsLog.load(tmp_path / "log.npz", **path("part.npy"))
    if path("part.npy"):
        losses, kept = again.losses(), np.full((7, count), True)
        kept[6] = np.isin(np.arange(count), np.concatenate([part for _, part in batches[18:20]]))
        np.testing.assert_array_equal(~np.isnan(losses), kept)
    go(again, batches[20:])
    assert set(again.scores()) == set(whole.scores())
    for name, values in whole.scores().items():
        np.testing.assert_array_equal(again.scores()[name], values, err_msg=name)
    if path("part.npy"):
        np.testing.assert_array_equal(again.paths(), whole.paths())
        np.testing.assert_array_equal(again.paths(), logits.astype(np.float16))


def test_what_is_no_file_of_the_log_is_refused(tmp_path):
    file, path = tmp_path / "log.npz", tmp_path / "logits.npy"
    log = dj.DynamicsLog(9, CLASSES, scores=("el2n_sum",), path=path)
    log.update(*GOOD)
    log.save(file)
    load = dj.DynamicsLog.load
    short = SCORES.find("el2n_sum").with_options(EL2NSumOptions(stop=3))
    np.save(tmp_path / "other.npy", np.zeros((1, 9, CLASSES + 1), np.float16))
    for asked, message in (
        ({}, "keeps its logits: give their file"),
        ({"path": tmp_path / "none.npy"}, "no file .*none.npy, in which the log kept"),
        ({"path": tmp_path / "other.npy"}, r"holds float16 of shape \(1, 9, 4\), the log was saved with"),
        ({"path": file}, "log.npz is no file of a log"),
        ({"path": path, "scores": ("aum",)}, "is a log of el2n_sum, not of aum"),
        ({"path": path, "scores": (short,)}, "logged el2n_sum as .*stop 10.*here it is .*stop 3"),
    ):
        with pytest.raises(dj.InputError, match=message):
            load(file, **asked)
    assert load(file, path=path).losses().shape == (1, 9)
    plain = dj.DynamicsLog(9, CLASSES, scores=(short,))
    plain.update(*GOOD)
    plain.save(file)
    with pytest.raises(dj.InputError, match="is of a log without a path"):
        load(file, scores=(short,), path=path)
    np.testing.assert_array_equal(
        load(file, scores=(short,)).scores()["el2n_sum"], plain.scores()["el2n_sum"]
    )
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(dj.InputError, match=r"log\.npz is damaged or no diet_jax file"):
        load(file, scores=(short,))


def test_where_the_disk_is_full_the_log_stays_as_it_was(tmp_path):
    """The file is cut off within a time; once there is room, the same batch is logged as if nothing were."""
    resource = pytest.importorskip("resource")
    path, size = tmp_path / "logits.npy", 3000
    log = dj.DynamicsLog(size, CLASSES, scores=("correctness",), path=path)
    logits, labels = np.random.default_rng(0).normal(size=(3, size, CLASSES)), np.zeros(size, np.int32)
    log.update(np.arange(size), logits[0], labels)
    before, limits = log.scores()["correctness"], resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5000, limits[1]))
    try:
        with pytest.raises(dj.InputError, match=r"cannot write .*logits.npy: File too large"):
            log.update(np.arange(size), logits[1], labels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(log.scores()["correctness"], before)
    log.update(np.arange(size), logits[1], labels)
    log.update(np.arange(size), logits[2], labels)
    np.testing.assert_array_equal(log.paths(), logits.astype(np.float32).astype(np.float16))
    with pytest.raises(dj.InputError, match="cannot write"):
        dj.DynamicsLog(3, CLASSES, path=path / "in a file.npy")


def test_what_cannot_be_logged():
    for scores, message in (
        (
            ("el2n",),
            "el2n reads logits, a DynamicsLog has scores of training dynamics that follow from logits: aum, ",
        ),
        (("vog",), "vog reads the network at the end of every epoch"),
        (("aum", "dual_clean"), "aum is of the training's own pass and dual_clean of a clean one"),
    ):
        with pytest.raises(dj.InputError, match=message):
            dj.DynamicsLog(9, CLASSES, scores=scores)
    with pytest.raises(dj.InputError, match="ids must be 3 different ones"):
        dj.DynamicsLog(3, CLASSES, ids=["a", "b", "a"])
    log = dj.DynamicsLog(3, CLASSES, ids=["a", "b", "c"])
    for ids, message in ((["a", "z"], "such as 'z'"), (["a", "a"], "'a' occurs more than once")):
        with pytest.raises(dj.InputError, match=message):
            log.update(ids, *GOOD[1:])
    assert jax.tree.leaves(log.scores())[0].shape == (3,)


@pytest.mark.parametrize("ids", [[True, False], [1.0, 0.0], ["1", "0"]])
def test_what_only_equals_integer_ids_names_no_example(ids):
    log = dj.DynamicsLog(3, 2, ids=[0, 1, 2], scores=("aum",))
    with pytest.raises(dj.InputError, match="ids must be integers, as those that the log was made with"):
        log.update(ids, np.zeros((2, 2)), [0, 1])
