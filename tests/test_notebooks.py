"""The notebooks: stored without results, equal to their scripts; they run and end with what was found.

The scripts run in this process, cell by cell, which spares a kernel's start and imports for each. One
notebook needs a process of its own, for it sets the number of devices: it runs as stored, through a kernel.
"""

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jupytext
import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from matplotlib import pyplot
from matplotlib.figure import Figure
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BY_KERNEL = "07_devices"
TINY = "DIET_JAX_TINY"


class OwnKernel(AsyncKernelManager):
    """A Python kernel of the interpreter that runs the tests; "python3" may be another environment's."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
        )


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs a stored notebook at its tiny setting in an empty folder and returns it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import json\nprint(json.dumps(found))"))
    env = {
        **os.environ,
        TINY: "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "IPYTHONDIR": str(folder / "ipython"),
        # As a reader runs it: without a debugger's messages.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
    client.kernel_manager_class = OwnKernel
    return client.execute(env=env)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def result_of(cell: str, names: dict[str, Any], where: str) -> Any:
    """Runs a cell and returns what a notebook shows below it, the value of an expression at its end."""
    body = ast.parse(cell, where).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None


@pytest.fixture
def found_by(monkeypatch, tmp_path, capsys, unchecked_types):
    """Runs a script at its tiny setting as a notebook runs it; returns what it found."""

    def run(name: str) -> dict[str, Any]:
        cells = jupytext.read(ROOT / f"notebooks/{name}.py").cells
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        events: list[str] = []

        def show() -> None:
            drawn = [pyplot.figure(number) for number in pyplot.get_fignums()]
            assert all(figure.axes for figure in drawn)
            for figure in drawn:
                figure.canvas.draw()
            pyplot.close("all")
            events.extend(["picture"] * len(drawn))

        monkeypatch.setattr(pyplot, "show", show)
        names: dict[str, Any] = {"__name__": "__main__"}
        for number, cell in enumerate(code):
            shown = result_of(cell, names, f"{name}.py, cell {number}")
            if isinstance(shown, Figure):
                shown.canvas.draw()
                events.append("picture")
            out, err = capsys.readouterr()
            assert not err
            events += ["words"] * bool(out.strip())
        assert events[-2:] == ["picture", "words"]
        assert out.strip().endswith(".")
        return names["found"]

    monkeypatch.setenv(TINY, "1")
    monkeypatch.chdir(tmp_path)
    # As readers have them; the tests' strict settings come back.
    with pyplot.rc_context(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield run
    pyplot.close("all")


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        path.stem for path in sorted((ROOT / "notebooks").glob("*.py"))
    ]
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 8)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_results(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_and_script_have_the_same_cells(path):
    stored, script = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in stored.cells] == [(c.cell_type, c.source) for c in script.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_as_a_page(path):
    """One title, at the top, with how long it takes; prose before code; ready for Colab."""
    cells = jupytext.read(path.with_suffix(".py")).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    titles = [line for text in prose for line in outside_of_code(text) if line.startswith("# ")]
    assert len(titles) == 1
    assert cells[0].source.startswith(titles[0])
    assert "two CPU cores" in cells[0].source.replace("\n", " ")
    assert "Colab" in next(cell.source for cell in cells if cell.cell_type == "code")


def outside_of_code(markdown: str) -> list[str]:
    return [line for part in markdown.split("```")[::2] for line in part.splitlines()]


def test_an_ensemble_agrees_more_than_its_networks(found_by):
    found = found_by("01_quickstart")
    assert found["groups"] > found["one_seed"] > 0.3
    assert found["el2n_with_grand"] > 0.9
    assert 0.1 < found["share_of_top_tenth"] < 1


def test_the_hardest_half_beats_a_random_half_and_few_hardest_do_not(found_by):
    found = found_by("02_prune_and_retrain")
    assert found["everything"] > 90
    assert found["half_minus_random"][0] > 0 > found["lowest_minus_random"][0]
    assert found["half_minus_everything"][0] > -1
    assert found["smallest_minus_random"][0] < 0


def test_own_models_and_data_are_scored(found_by):
    found = found_by("03_your_own")
    assert found["linen_with_functions"] > 0.8
    assert found["wrong_side_of_hardest"] > 2 * found["wrong_side_of_all"]
    assert found["lead_with_el2n"] < -0.2


def test_early_scores_find_wrong_labels_and_a_window_avoids_them(found_by):
    found = found_by("04_label_noise")
    assert found["auc_early"] > 0.95
    assert found["top_window"] < found["random"] < found["chosen_window"]


def test_the_kernel_moves_more_for_hard_examples_which_keep_networks_apart(found_by):
    found = found_by("05_kernel_and_barriers")
    assert 0 < found["velocity_easiest"] < found["velocity_fastest"] < 1
    assert found["barrier_easiest"] <= found["barrier_hardest_last"] < found["barrier_hardest"] < 50


def test_what_finds_wrong_labels_is_not_what_to_keep_by(found_by):
    found = found_by("06_which_score")
    assert found["best_auc"] > 0.9 > found["best_kept_auc"]
    assert 100 > found["best_kept"] > found["best_auc_kept"] > 50


def test_devices_give_the_same_numbers(tmp_path):
    notebook = executed(ROOT / f"notebooks/{BY_KERNEL}.ipynb", tmp_path)
    *cells, drawing, saying, numbers = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("image/png" in output.get("data", {}) for output in drawing.outputs)
    assert printed(saying).strip().endswith(".")
    assert "going on with 2" in "".join(map(printed, cells))
    found = json.loads(printed(numbers))
    assert found["devices"] == 8
    assert found["largest_difference"] < 1e-4 < found["between_seeds"]
