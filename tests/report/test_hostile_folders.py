"""Run folders that are damaged, mixed up, unfinished or strangely named: refused, or said in the page."""

import dataclasses
import os
import shutil
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from report_pages import EXAMPLES, Page, pictures

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.report.contents import Contents, read_run
from diet_jax.report.page import make_page
from diet_jax.report.serve import make_server


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    return shutil.copytree(runs.second, tmp_path / "copy")


def page_of(folder: Path, *runs: Contents) -> Page:
    (folder / "page.html").write_text(make_page(runs), encoding="utf-8")
    return Page(folder / "page.html")


def other_scores(run: Path) -> None:
    other = pictures(EXAMPLES, "train", 7)
    dj.ScoreFile.from_seeds("el2n", np.arange(EXAMPLES), other, step=1).save(run / "scores" / "el2n.npz")


def other_mask(run: Path) -> None:
    file = dj.KeepFile.from_mask(np.arange(EXAMPLES) < 40, pictures(EXAMPLES, "train", 7))
    file.save(run / "masks" / "el2n_keep0.25.npz")


def cut_table(run: Path) -> None:
    text = (run / "table.csv").read_text()
    (run / "table.csv").write_text(text[: len(text) // 2])


def another_number(run: Path) -> None:
    text = (run / "classes.csv").read_text()
    (run / "classes.csv").write_text(text.replace("1.0", "0.9", 1))


def no_text(run: Path) -> None:
    (run / "provenance.json").unlink()
    (run / "table.md").write_bytes(b"\xff\xfe")


def copied_mask(run: Path) -> None:
    shutil.copy(run / "masks" / "el2n_keep0.5.npz", run / "masks" / "el2n_keep0.5 (copy).npz")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_scores, "the score file el2n is of other data"),
        (other_mask, "the mask el2n, keep 0.25, is of other data"),
        (cut_table, r"table\.csv is not what the run wrote"),
        (another_number, r"classes\.csv is not what the run wrote"),
        (no_text, r"table\.md is damaged"),
        (copied_mask, "is not named as the mask of a selection"),
    ],
)
def test_what_is_not_of_the_run_is_refused(damage, said, copy):
    damage(copy)
    with pytest.raises(dj.InputError, match=said):
        read_run(copy)


def test_an_unfinished_run_says_so(copy, tmp_path):
    assert read_run(copy).unfinished == ""
    for name in ("provenance.json", "table.csv", "table.md", "classes.csv", "costs.csv"):
        (copy / name).unlink()
    next(copy.glob("retrain/random_keep0.5/*.npz")).unlink()
    page = page_of(tmp_path, read_run(copy))
    assert page.data["runs"][0]["unfinished"].startswith("interrupted: ")


def test_runs_without_a_score_in_common_are_drawn(runs, tmp_path):
    first, second = read_run(runs.first), read_run(runs.second)
    file = dataclasses.replace(second.files["el2n"], name="grand")
    page = page_of(tmp_path, first, dataclasses.replace(second, files={"grand": file}))
    shown = page.section("explore")
    assert (shown["x"], shown["y"], shown["y_run"]) == (next(iter(first.files)), "grand", 1)


def test_large_ids_and_tokens_are_exact(runs, tmp_path):
    run = read_run(runs.first)
    ids = 2**60 + np.arange(EXAMPLES)
    tokens = 2**24 + 1 + np.arange(EXAMPLES * 4).reshape(EXAMPLES, 4)
    data = dj.Dataset.from_arrays(tokens, np.zeros(EXAMPLES, int), kind="tokens")
    files = {name: dataclasses.replace(file, ids=ids) for name, file in run.files.items()}
    page = page_of(tmp_path, dataclasses.replace(run, files=files, dataset=data))
    assert page.column(page.data["examples"]["ids"]) == [str(each) for each in ids.tolist()]
    values = page.column(page.data["pictures"]["values"])
    np.testing.assert_array_equal(values.reshape(EXAMPLES, 4), tokens)


def test_a_folder_whose_name_is_no_text_has_a_report(copy):
    odd = os.fsdecode(bytes(copy.parent) + b"/\xff")
    try:
        moved = copy.rename(odd)
    except OSError:
        pytest.skip("this file system has text as names only")
    assert Page(dj.write_report(moved)).data["title"] == "?"


def test_places_on_disk_are_not_in_what_is_said_of_the_data(copy, monkeypatch):
    def lost(*_):
        raise dj.InputError("folder /somewhere/pets/ does not exist; give TRAIN/CLASS, not /data/x")

    monkeypatch.setattr("diet_jax.report.contents.load_splits", lost)
    assert "folder …/ does not exist; give TRAIN/CLASS, not …/x" in read_run(copy).without


def test_a_page_that_has_gone_is_not_found(page, tmp_path, capfd):
    gone = Path(shutil.copy(page, tmp_path / "gone.html"))
    with make_server(gone) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        gone.unlink()
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://127.0.0.1:{server.server_port}/")
        assert refused.value.code == 404
        refused.value.close()
        server.shutdown()
        thread.join()
    assert capfd.readouterr().err == ""


def test_serving_in_silence_is_refused(copy, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(copy), "--serve", "--quiet"])
    assert stopped.value.code == 2
    assert "leave out one of them" in capsys.readouterr().err
