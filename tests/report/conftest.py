"""Two small runs of the same examples, and the report of the first."""

from pathlib import Path

import pytest
from report_pages import EXAMPLES, NAMES, Page, Runs, pictures

import diet_jax as dj


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("report")
    train = pictures(EXAMPLES, "train", 0)
    test = pictures(40, "test", 1, train.normalization)

    def run(name: str, scores: tuple[str, ...], seeds: int) -> dj.RunResult:
        config = dj.RunConfig(
            data=dj.DataConfig(label_noise=0.1),
            train=dj.TrainConfig(epochs=4, batch_size=32, augment="none"),
            score=dj.ScoreConfig(names=scores, epoch=2, num_seeds=seeds),
            select=dj.SelectConfig(fractions=(0.25, 0.5)),
            retrain=dj.RetrainConfig(num_seeds=2),
            run_dir=str(folder / name),
        )
        model = dj.create_model("mlp", num_classes=len(NAMES), widths=(16,))
        return dj.run(config, train=train, test=test, model=model)

    # Figures are no part of a report, and take half of the time.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("diet_jax.experiments.prune.draw", lambda *arguments: None)
    result = run("first", ("el2n", "mean_confidence", "variability", "correctness"), 4)
    run("second", ("el2n",), 1)
    monkeypatch.undo()
    return Runs(folder / "first", folder / "second", train, test, result)


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> Path:
    """The report of the first run."""
    out = tmp_path_factory.mktemp("pages") / "first.html"
    return dj.write_report(runs.first, out=out, splits=(runs.train, runs.test))


@pytest.fixture(scope="session")
def parsed(page) -> Page:
    return Page(page)
