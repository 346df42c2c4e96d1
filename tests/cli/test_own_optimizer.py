"""Config files with an optimiser and a schedule of one's own: the command line and the folder know them."""

import json

import pytest

from diet_jax.cli.main import main
from diet_jax.errors import InputError
from diet_jax.experiments.run_folder import RunFolder

CONFIG = """
import optax
import diet_jax as dj
from diet_jax.experiments.config import RunConfig

def optimizer(rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

CONFIG = RunConfig(
    train=dj.TrainConfig(
        epochs=2, batch_size=128, augment="none", optimizer=optimizer,
        schedule=optax.cosine_decay_schedule(0.01, 16),
    ),
    run_dir="run",
)
"""


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(CONFIG)
    return tmp_path / "own.py"


def test_help_offers_the_names_and_shows_the_objects(config_file, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", str(config_file), "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--train.optimizer {sgd,adamw}" in text
    assert "--train.schedule {piecewise,linear,cosine}" in text
    assert "(default: 'optimizer " in text
    assert "schedule " in text


@pytest.mark.slow
def test_a_training_goes_on_with_the_same_optimiser_alone(config_file, capsys, unchecked_types):
    file = [str(config_file), "--no-compilation-cache"]
    train = ["train", *file, "--train.epochs", "1", "--checkpoint-epochs", "1", "--purpose", "score"]
    train += ["--score.num-seeds", "1"]
    main(train)
    written = json.loads((config_file.parent / "run/config.json").read_text())
    assert written["config"]["train"]["optimizer"].startswith("optimizer ")
    assert written["config"]["train"]["epochs"] == 1
    assert written["resolved"]["decay_after_steps"] is None
    with pytest.raises(InputError, match="the optimizer of run is an object of Python"):
        RunFolder("run").config()
    # The folder has the names, the file the functions.
    main(["score", str(config_file), "--from-run", "run", "--step", "8", "--names", "el2n", *file[1:]])
    # Another constant in a function is another optimiser, and so is a name.
    config_file.write_text(CONFIG.replace("norm(1.0)", "norm(2.0)"))
    for options in ([], ["--train.optimizer", "adamw"]):
        with pytest.raises(SystemExit):
            main([*train, *options])
        assert "another config (--train.optimizer: " in capsys.readouterr().err
