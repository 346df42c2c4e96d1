"""Every command in the docs is one: the real parser takes it. At their smallest setting they run (slow)."""

import re
import shlex
from pathlib import Path

import pytest

from diet_jax.cli.main import main, parse

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCKS = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(diet-jax [^`]*)`")
COMMAND = re.compile(r"^(?:srun )?(diet-jax [a-z].*)$", re.MULTILINE)
# Files that a reader has: config files, and where a page shows one, what is in it.
CONFIGS = ("CONFIG.py", "mine.py", "my_figure.py", "both_ends.py", "score_spread.py")
# What the recipes of CONTRIBUTING.md register; tests/experiments/test_recipes.py runs them.
RECIPES = {"gap", "both_ends"}


def commands_of(page):
    """The commands of a page, each as its words without the first, blocks before what stands in the text."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for block in BLOCKS.findall(text)]
    in_blocks = [line for block in blocks for line in COMMAND.findall(block)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    in_text = [re.sub(r"\s+", " ", found) for found in INLINE.findall(prose)]
    for line in dict.fromkeys(in_blocks + [line for line in in_text if "..." not in line]):
        words = shlex.split(line, comments=True)[1:]
        words = words[: words.index(">")] if ">" in words else words
        # Names of commands in a sentence are no command lines, and what is in capitals is to be filled in.
        if line in in_blocks or (len(words) > 1 and not words[-1].startswith("--")):
            yield tuple(words)


def everywhere():
    found = {}
    for page in PAGES:
        for words in commands_of(page):
            if page.name == "CONTRIBUTING.md" and RECIPES & set(words):
                continue
            found.setdefault(words, page.relative_to(ROOT).as_posix())
    return found


COMMANDS = everywhere()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what the commands of the pages are called beside."""
    for name in ("configs", "examples", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in CONFIGS:
        (tmp_path / name).symlink_to(ROOT / "configs" / "digits.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_have_commands():
    assert len(COMMANDS) > 60
    assert {words[0] for words in COMMANDS} >= {
        "run",
        "compare",
        "score",
        "select",
        "train",
        "convert",
        "verify",
    }


def test_the_parser_takes_every_command_of_the_docs(clone, capsys):
    refused = {}
    for words, page in COMMANDS.items():
        try:
            parse(list(words))
        except (SystemExit, Exception) as error:
            refused[" ".join(words)] = f"{page}: {error} {capsys.readouterr().err[-300:]}"
    assert not refused, "\n".join(f"{line}: {why}" for line, why in refused.items())


TINY = {
    "--data.name": ("digits",),
    "--data.num-train": ("200",),
    "--train.epochs": ("2",),
    "--train.batch-size": ("20",),
    "--score.epoch": ("1",),
    "--score.num-seeds": ("4",),
    "--retrain.num-seeds": ("1",),
}
# What is said of a long training, as it is of a short one.
SHORT = {"--checkpoint-epochs": ("0", "1"), "--step": ("10",)}
# Downloads, data that is not here, several processes; what a plan needs is the data too.
NOT_HERE = {"prepare", "reproduce", "--distributed", "--plan", "report", "doctor", "completion", "runs"}
RUN = ("running", "own-model", "own-score", "comparison", "label-noise")


def shortened(words):
    """A command at its smallest setting."""
    kept, options = [], {}
    for word in words:
        if word.startswith("--"):
            options[word] = []
        (options[next(reversed(options))] if options else kept).append(word)
    options = {name: [name, *SHORT.get(name, given[1:])] for name, given in options.items()}
    if words[0] in ("run", "compare", "score", "train") and "--from-run" not in words:
        own_data = any(word.startswith("examples/") for word in words)
        tiny = {name: value for name, value in TINY.items() if not (own_data and name.startswith("--data"))}
        if words[0] == "train":
            tiny.pop("--retrain.num-seeds")
        options |= {name: [name, *value] for name, value in tiny.items()}
        for word in kept:
            if word.startswith("configs/"):  # Of other data and networks, whose folder is named after them.
                options |= {"--model.name": ["--model.name", "mlp"]}
                options.setdefault("--run-dir", ["--run-dir", f"runs/{word.replace('/', '-')}"])
    return [*kept, *(word for given in options.values() for word in given)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_commands_run_at_their_smallest_setting(page, clone):
    (clone / "labels.csv").write_text("id,label\n", encoding="utf-8")
    done = []
    if page == "running":
        main(shortened(["run"]))
    if page == "own-score":
        margins()
    for words in commands_of(ROOT / "docs" / f"{page}.md"):
        if not NOT_HERE & set(words) and not any(w.isupper() or "labels.csv" in w for w in words[1:]):
            main(shortened(words))
            done.append(words)
    assert done


def margins():
    """Writes the file that docs/own-score.md makes."""
    import numpy as np

    import diet_jax as dj

    train, _ = dj.load_dataset("digits")
    values = np.random.default_rng(0).normal(size=(3, len(train)))
    dj.ScoreFile.from_seeds("margin", values, train, step=0).save("margin.npz")
