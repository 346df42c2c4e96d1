"""score.stop_when_stable: fewer seeds where more would change little, the same after a stop in between."""

import dataclasses
import json

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.experiments.run_folder import open_run
from diet_jax.experiments.scoring import score_stage, unscored
from diet_jax.experiments.scoring_notes import missing_notes
from diet_jax.experiments.setup import prepare
from diet_jax.experiments.stopping import stop_of
from diet_jax.experiments.verify import verify_run


def config(folder, **score) -> dj.RunConfig:
    score = {"names": ("el2n",), "epoch": 1, "num_seeds": 8, "min_seeds": 1, **score}
    return dj.RunConfig(
        data=dj.DataConfig(num_train=200),
        model=dj.ModelConfig(widths=(8,)),
        train=dj.TrainConfig(steps=40, batch_size=20, learning_rate=0.05, augment="none"),
        score=dj.ScoreConfig(**score),
        select=dj.SelectConfig(fractions=(0.5,)),
        retrain=dj.RetrainConfig(num_seeds=2),
        run_dir=str(folder),
    )


def scored(folder, after=lambda setup, run: None, **score) -> dj.ScoreFile:
    setup = prepare(config(folder, **score), prunes=False)
    with open_run(setup.config, setup.resolved()) as run:
        after(setup, run)
        return score_stage(setup, run)[0]


def test_scoring_stops_and_goes_on_to_the_same_file(tmp_path, capsys):
    share = 0.12
    file = scored(tmp_path / "a", stop_when_stable=share)
    stopped = file.provenance["stopped"]
    count = len(file.per_seed)
    assert 4 <= count < 8
    assert (stopped["seeds"], stopped["of"]) == (count, 8)
    assert file.num_seeds == f"{count} of 8"
    assert f"scoring stops after {count} of 8 seeds" in capsys.readouterr().err
    # Those that were not stopped, and the same decision by the public functions.
    whole = scored(tmp_path / "whole", how="loop")
    np.testing.assert_array_equal(whole.per_seed[:count], file.per_seed)

    def change(seeds):
        half = seeds // 2
        kept = dj.stability(whole.per_seed[:seeds], (0.5,), groups=[half], pairs=5)[0].kept[0.5].mean
        return 1 - dj.expected_overlap(kept, 0.5, seeds=half, now=seeds, more=8 - seeds)

    assert [change(seeds) < share for seeds in range(4, count + 1)] == [False] * (count - 4) + [True]
    # Begun without the last seeds, as where it was killed.
    for folder in ("b", "c"):
        setup = prepare(config(tmp_path / folder, stop_when_stable=share), prunes=False)
        with open_run(setup.config, setup.resolved()) as run:
            score_stage(setup, run)
            lost = run.path / "scores" / "per_seed" / f"seed_{count - 1:02d}.npz"
            lost.unlink()
            if folder == "b":
                lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
                kept = [line for line in lines if json.loads(line)["unit"] != "scoring/stopped"]
                assert len(kept) == len(lines) - 1
                (run.path / "metrics.jsonl").write_text("".join(kept))
        again = scored(tmp_path / folder, stop_when_stable=share)
        np.testing.assert_array_equal(again.per_seed, file.per_seed)
        assert again.provenance["stopped"] == stopped
    note = f"{count} of 8 seeds have scored: by disjoint halves of the seeds, {8 - count} more would change "
    assert missing_notes([file, again])[0].startswith(note)
    assert len(missing_notes([file, again])) == 1


@pytest.mark.slow
def test_the_table_says_it_and_the_folder_is_verified(tmp_path):
    result = dj.run(config(tmp_path / "run", stop_when_stable=0.5))
    note = next(note for note in result.notes if "seeds have scored" in note)
    assert note.startswith("4 of 8 seeds have scored: by disjoint halves of the seeds, 4 more would change ")
    assert note in (result.path / "table.md").read_text()
    assert result.scores["el2n"].num_seeds == "4 of 8"
    checks = list(verify_run(result.path))
    assert not [check.wrong for check in checks if check.wrong]
    setup = prepare(config(tmp_path / "run", stop_when_stable=0.5))
    with open_run(setup.config, setup.resolved()) as run:
        assert unscored(setup, run) == []
        assert stop_of(run).seeds == 4


def test_seeds_that_must_score_do(tmp_path):
    assert len(scored(tmp_path / "a", stop_when_stable=0.5, min_seeds=6).per_seed) == 6
    assert len(scored(tmp_path / "b", stop_when_stable=1e-9).per_seed) == 8


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(dj.InputError, match=r"needs seeds one by one: score\.how is vmap"):
        dj.ScoreConfig(stop_when_stable=0.1, how="vmap")
    with pytest.raises(dj.InputError, match=r"score\.stop_when_stable must be"):
        dj.ScoreConfig(stop_when_stable=1.5)
    with pytest.raises(dj.InputError, match=r"spares those after: score\.num_seeds is 4"):
        dj.ScoreConfig(stop_when_stable=0.1, num_seeds=4)
    assert dj.ScoreConfig(stop_when_stable=0.1).how == "loop"
    assert dataclasses.replace(dj.ScoreConfig(), stop_when_stable=0.1).how == "loop"
