"""`diet-jax score`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import show
from diet_jax.cli.options import Experiment
from diet_jax.cli.reporting import report_after
from diet_jax.devices.processes import from_writer, is_alone, together
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.choices import choices_of, chosen
from diet_jax.experiments.config import DataConfig, RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.own import from_folder
from diet_jax.experiments.prune import draw_scores
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import score_stage
from diet_jax.experiments.scoring_notes import detection_stage, missing_notes
from diet_jax.experiments.scoring_saved import score_checkpoints
from diet_jax.experiments.setup import prepare as prepare_setup
from diet_jax.experiments.setup import save_noise
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import SCORES

Scores = Annotated[tuple[str, ...], tyro.conf.arg(constructor_factory=choices_of(SCORES, several=True))]


@dataclass(frozen=True)
class Score(Experiment):
    """Score every example with an ensemble, and write a score file for each score.

    Trains the ensemble of the config, or, with --from-run, scores the saved checkpoints of a run.
    """

    from_run: Path | None = None
    """Score the checkpoints that `diet-jax train --purpose score` (or run) saved in this run folder; data,
    model and seeds are those of that run."""
    step: int | None = None
    """With --from-run: the step of the checkpoints."""
    names: Scores = ()
    """With --from-run: which scores; by default those of the run's config."""


def score(command: Score) -> Answer:
    """Scores an ensemble, trained now or restored from a run's checkpoints, and writes score files."""
    if command.from_run is not None:
        return score_from_run(command)
    if command.step is not None or command.names:
        raise InputError("--step and --names need --from-run; without it use --score.epoch and --score.names")
    setup = together(lambda: prepare_setup(command.config, command.own, prunes=False))
    with (
        config_mesh(setup.config),
        open_run(setup.config, setup.resolved(), writers=command.writers) as folder,
    ):
        save_noise(setup, folder)
        files = score_stage(setup, folder)
        detection_stage(setup, folder, files)
        from_writer(lambda: draw_scores(folder.path / "figures", setup, files))
        for note in missing_notes(files):
            say(note)
        made = _made([folder.path / "scores" / f"{file.name}.npz" for file in files])
        path = folder.path
    report_after(path, setup.own)
    return made


def _made(paths: list[Path]) -> Answer:
    for path in paths:
        show(path)
    return Answer({"scores": {path.stem: str(path) for path in paths}}, tuple(paths))


def score_from_run(command: Score) -> Answer:
    """Scores the checkpoints of one step of all scoring seeds of a run: scores/step_STEP/NAME.npz."""
    assert command.from_run is not None
    if not is_alone():
        raise InputError("--from-run scores in one process; leave out --distributed")
    given, usual = vars(command.config.data), vars(DataConfig())
    moved = {name: given[name] for name in ("name", "data_dir", "labels") if given[name] != usual[name]}
    if command.config != RunConfig(data=DataConfig(**moved)):
        raise InputError(
            "--from-run takes data, model and seeds from that run: leave out all options but --step, --names "
            "and, where its data has moved, --data.name, --data.data-dir and --data.labels"
        )
    if command.step is None:
        raise InputError("--from-run needs --step, the step of the checkpoints to score")
    folder = RunFolder(command.from_run)
    resolved, place = folder.header()["resolved"], folder.path / "scores"
    config, own = from_folder(folder.config(command.own.recipe), command.own, resolved, place)
    data = dataclasses.replace(config.data, **moved)
    config = dataclasses.replace(config, run_dir=str(command.from_run), data=data)
    scores = [chosen(SCORES, name, config.score.options) for name in command.names or config.score.names]
    setup = prepare_setup(config, own, scores=False, prunes=False)
    with open_run(config, setup.resolved()) as folder:
        paths = score_checkpoints(setup, folder, command.step, scores)
        files = [ScoreFile.load(path) for path in paths]
        draw_scores(folder.path / "figures" / f"step_{command.step}", setup, files, step=command.step)
        for note in missing_notes(files):
            say(note)
        return _made(paths)


COMMAND = Command(
    Score,
    score,
    {
        "score --score.names el2n grand forgetting": "score the digits with an ensemble",
        "score --score.epoch 2 --score.num-seeds 5": "five networks, each trained for two epochs",
        "score --from-run runs/seeds --step 165 --names el2n": "score checkpoints that `train` saved",
    },
    goes_on=True,
    takes_file=True,
    sources=lambda _: True,
)
