"""What stands in the page, read back by another route: from the run folder's own files."""

import base64
import csv
import dataclasses
import hashlib
import io
import re
import urllib.error
import urllib.request
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from report_pages import EXAMPLES, NAMES, Page, pictures

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.cli.reporting import report_after
from diet_jax.report.contents import read_rows, read_run
from diet_jax.report.joined import join
from diet_jax.report.page import make_page
from diet_jax.report.serve import make_server
from diet_jax.report.thumbnails import ACROSS, PER_PIECE, make_thumbnails


def test_rows_are_read_as_they_were_written(runs):
    assert read_rows(runs.first / "table.csv") == runs.result.rows


def test_the_table_in_the_page_is_that_of_the_folder(runs, parsed):
    with open(runs.first / "table.csv", newline="") as file:
        wanted = list(csv.DictReader(file))
    (table,) = parsed.section("accuracy")["tables"]
    assert [row["kept_by"] for row in table["rows"]] == [row["kept_by"] for row in wanted]
    for name in ("accuracy", "accuracy_p16", "minus_random_p_holm", "cost"):
        for row, text in zip(table["rows"], wanted, strict=True):
            assert row[name] == (float(text[name]) if text[name] else None)


def test_curves_are_those_of_the_table(parsed):
    section = parsed.section("accuracy")
    (panel,) = section["panels"]
    rows = section["tables"][0]["rows"]
    for series in panel["series"]:
        own = sorted(
            (row["keep_fraction"], row["cost"], row["accuracy"], row["accuracy_p16"], row["accuracy_p84"])
            for row in rows
            if (row["score"] or row["kept_by"]) == series["name"]
        )
        drawn = zip(*(series[key] for key in ("fraction", "cost", "mean", "low", "high")), strict=True)
        assert list(drawn) == own


def test_columns_are_those_of_the_files(runs, parsed):
    examples = parsed.data["examples"]
    ids = parsed.column(examples["ids"])
    with np.load(runs.first / "noise.npz") as noise:
        assert ids == noise["ids"].tolist() == runs.train.ids.tolist()
        np.testing.assert_array_equal(parsed.column(examples["labels"]), noise["labels"])
        np.testing.assert_array_equal(parsed.column(examples["clean"]), noise["clean_labels"])
        assert 0 < noise["changed"].sum() < EXAMPLES
    assert [score["name"] for score in examples["scores"]] == list(read_run(runs.first).files)
    for score in examples["scores"]:
        with np.load(runs.first / "scores" / f"{score['name']}.npz") as file:
            values = parsed.column(score["values"])
            np.testing.assert_array_equal(values, file["scores"].astype(np.float32))
    for selection in examples["selections"]:
        name = f"{selection['kept_by']}_keep{selection['fraction']:g}"
        with np.load(runs.first / "masks" / f"{name}.npz") as file:
            np.testing.assert_array_equal(parsed.column(selection["keep"]), np.atleast_2d(file["keep"])[0])
    assert len(examples["selections"]) == len(list((runs.first / "masks").glob("*.npz")))


def test_pictures_are_those_of_the_examples(runs, parsed):
    made = parsed.data["pictures"]
    assert made["kind"] == "images"
    rows = parsed.column(made["rows"])
    np.testing.assert_array_equal(rows, np.arange(EXAMPLES))
    (piece,) = made["pieces"]
    atlas = np.asarray(Image.open(io.BytesIO(parsed.bytes_of(piece))).convert("L"))
    # One scale for all: the brightest pixel is white.
    images = runs.train.images[..., 0] / runs.train.images.max()
    for row in range(EXAMPLES):
        top, left = 8 * (row // ACROSS), 8 * (row % ACROSS)
        shown = atlas[top : top + 8, left : left + 8] / 255
        np.testing.assert_allclose(shown, images[row], atol=0.01)


def test_classes_and_overlap_are_counted_from_the_masks(runs, parsed):
    classes, overlap = parsed.section("classes"), parsed.section("overlap")
    labels = parsed.column(parsed.data["examples"]["labels"])
    masks = {(k.kept_by, k.fraction): np.atleast_2d(k.file.keep) for k in read_run(runs.first).kept}
    for each in classes["selections"]:
        mask = masks.get((each["kept_by"], each["fraction"]))
        if mask is not None:
            counts = [mask[:, labels == label].sum() / len(mask) for label in range(len(NAMES))]
            assert each["kept"] == pytest.approx(counts)
    for group in overlap["groups"]:
        for i, one in enumerate(group["names"]):
            for j, other in enumerate(group["names"]):
                a, b = (set(np.flatnonzero(masks[name, group["fraction"]][0])) for name in (one, other))
                assert group["shares"][i][j] == pytest.approx(len(a & b) / len(a), abs=1e-4)


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else(parsed):
    (policy,) = (
        at["content"] for tag, at in parsed.elements if at.get("http-equiv") == "Content-Security-Policy"
    )
    rules = {words[0]: words[1:] for words in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:", "blob:"]
    run = [text for attributes, text in parsed.scripts if "type" not in attributes]
    sums = {f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in run}
    assert set(rules["script-src"]) == sums
    assert len(run) == 3


def test_names_are_text_and_nothing_is_asked_for(parsed, page):
    assert parsed.data["examples"]["class_names"] == list(NAMES)
    tags = [tag for tag, _ in parsed.elements]
    assert "img" not in tags
    assert tags.count("script") == len(parsed.blobs) + 4
    links = [at.get(name) for _, at in parsed.elements for name in ("src", "href") if at.get(name)]
    assert set(links) <= {"#main", "data:,"}
    assert not re.search(r"\son\w+=", re.sub(r"(?s)<script.*?</script>", "", page.read_text()))


def test_places_on_disk_do_not_travel(runs, parsed):
    texts = [text for attributes, text in parsed.scripts if attributes.get("id") == "data"]
    assert str(runs.first.parent) not in texts[0]


def test_a_page_of_many_pictures_stays_within_its_budget():
    draw = np.random.default_rng(0)
    noise = dj.Dataset.from_arrays(draw.integers(0, 256, (2000, 28, 28), np.uint8), np.arange(2000) % 2)
    few = make_thumbnails(noise, np.arange(2000), 200_000)
    assert 100_000 < sum(map(len, few.pieces)) <= 200_000
    assert len(np.unique(np.diff(few.rows))) <= 2
    assert f"{len(few.rows):,} of 2,000 examples, chosen evenly" in few.said
    every = make_thumbnails(noise, np.arange(2000), 10_000_000)
    assert len(every.rows) == 2000
    assert len(every.pieces) == -(-2000 // PER_PIECE)
    assert "without loss" in every.said


def test_large_pictures_are_reduced_and_keep_their_shape():
    images = np.zeros((3, 100, 200, 3), np.uint8)
    images[1, :, :, 0] = 200
    made = make_thumbnails(dj.Dataset.from_arrays(images, [0, 1, 0]), np.arange(3), 100_000)
    assert (made.width, made.height) == (64, 32)
    atlas = np.asarray(Image.open(io.BytesIO(made.pieces[0])).convert("RGB"))
    assert atlas[:32, 64:128].mean(axis=(0, 1)).tolist() == [255, 0, 0]


def test_runs_are_joined_by_id(runs, tmp_path):
    first, second = (dataclasses.replace(read_run(path), dataset=None) for path in (runs.first, runs.second))
    order = np.random.default_rng(1).permutation(EXAMPLES)
    file = second.files["el2n"]
    moved = dataclasses.replace(
        file, **{n: getattr(file, n)[..., order] for n in ("scores", "per_seed", "ids", "labels", "rows")}
    )
    kept = [
        dataclasses.replace(
            k, file=dataclasses.replace(k.file, keep=k.file.keep[..., order], ids=k.file.ids[order])
        )
        for k in second.kept
    ]
    shuffled = dataclasses.replace(
        second, files={"el2n": moved}, kept=kept, changed=second.changed[order], fingerprint="another order"
    )
    joined = join([first, shuffled]).runs[1]
    np.testing.assert_array_equal(joined.files["el2n"].scores, file.scores)
    np.testing.assert_array_equal(joined.kept[-1].file.keep, second.kept[-1].file.keep)
    np.testing.assert_array_equal(joined.changed, second.changed)
    same_order = dataclasses.replace(second, fingerprint="other contents")
    with pytest.raises(dj.InputError, match="160 examples have the ids and labels"):
        join([first, same_order])
    labels = moved.labels.copy()
    labels[:3] = (labels[:3] + 1) % len(NAMES)
    other = dataclasses.replace(shuffled, files={"el2n": dataclasses.replace(moved, labels=labels)})
    with pytest.raises(dj.InputError, match="labels of 3 of 160 examples"):
        join([first, other])
    ids = moved.ids.copy()
    ids[:2] = ["a", "b"]
    other = dataclasses.replace(shuffled, files={"el2n": dataclasses.replace(moved, ids=ids)})
    with pytest.raises(dj.InputError, match=r"2 of 160 ids are missing.*2 ids are others"):
        join([first, other])


def test_several_runs_stand_side_by_side(runs, tmp_path):
    out = dj.write_report(
        [runs.first, runs.second], out=tmp_path / "both.html", splits=(runs.train, runs.test)
    )
    both = Page(out)
    assert [run["name"] for run in both.data["runs"]] == ["first", "second"]
    assert [panel["title"] for panel in both.section("accuracy")["panels"]] == [
        "first: what was kept",
        "second: what was kept",
    ]
    (compared,) = both.section("overlap")["correlations"]
    one, other = (
        np.load(path / "scores" / "el2n.npz")["scores"].argsort().argsort()
        for path in (runs.first, runs.second)
    )
    assert compared["correlation"] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-3)


def test_without_the_examples_the_page_says_so(runs, tmp_path):
    page = Page(dj.write_report(runs.first, out=tmp_path / "without.html"))
    assert page.data["pictures"]["kind"] == "none"
    assert "not here" in page.data["pictures"]["said"]
    assert page.data["examples"]["class_names"] == list(NAMES)
    others = pictures(EXAMPLES, "train", 5)
    page = Page(dj.write_report(runs.first, out=tmp_path / "others.html", splits=(others, runs.test)))
    assert "by their fingerprint" in page.data["pictures"]["said"]


def test_a_run_that_has_no_table_yet_has_a_report(runs, tmp_path):
    contents = dataclasses.replace(read_run(runs.first), rows=[], class_rows=[], cost_rows=[], kept=[])
    (tmp_path / "page.html").write_text(make_page([contents]), encoding="utf-8")
    names = [section["name"] for section in Page(tmp_path / "page.html").data["sections"]]
    assert names == ["explore", "histograms", "stability", "costs", "provenance"]


def test_what_is_no_image_is_a_table_of_rows(tmp_path, runs):
    draw = np.random.default_rng(2)
    table = dj.Dataset.from_arrays(draw.normal(size=(EXAMPLES, 11)), np.zeros(EXAMPLES, int), kind="table")
    contents = dataclasses.replace(read_run(runs.first), dataset=table)
    (tmp_path / "page.html").write_text(make_page([contents]), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    values = page.column(page.data["pictures"]["values"]).reshape(EXAMPLES, 8)
    np.testing.assert_array_equal(values, table.inputs[:, :8])


def test_the_command_writes_beside_the_run_and_refuses_what_does_not_fit(runs, tmp_path, capsys, monkeypatch):
    main(["report", str(runs.second)])
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert (runs.second / "report.html").stat().st_size > 1_000_000
    for arguments, message in (
        ([str(runs.first), str(runs.second)], "--out must say where the report of 2 runs goes"),
        ([str(runs.first), "--out", str(tmp_path / "page.txt")], "--out must end in .html"),
        ([str(tmp_path)], "is not a run folder"),
        ([], "report needs a run folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["report", *arguments])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    report_after(tmp_path)
    assert "no report:" in capsys.readouterr().err
    monkeypatch.setattr("diet_jax.report.writing.make_page", lambda _: 1 / 0)
    report_after(runs.first)
    assert "no report: ZeroDivisionError" in capsys.readouterr().err


def test_the_server_gives_the_page_to_this_machine_alone(page):
    with make_server(page) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{address}/") as answer:
            assert answer.read() == page.read_bytes()
        elsewhere = urllib.request.Request(f"{address}/", headers={"Host": "example.org"})
        for asked in (f"{address}/config.json", f"{address}/../table.csv", elsewhere):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked)
            assert refused.value.code == 404
            refused.value.close()
        server.shutdown()
        thread.join()
