"""The notebooks: stored without results, equal to their scripts, and they run."""

import json
import os
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


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
    """Runs a stored notebook in an empty folder and returns it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    env = {
        **os.environ,
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


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        path.stem for path in sorted((ROOT / "notebooks").glob("*.py"))
    ]
    assert NOTEBOOKS


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


def test_quickstart_runs_and_finds_the_papers_result(tmp_path):
    notebook = executed(ROOT / "notebooks" / "01_quickstart.ipynb", tmp_path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    figures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    stderr = [o.text for cell in code for o in cell.outputs if o.get("name") == "stderr"]
    assert len(figures) == 3
    assert stderr == []

    summary = json.loads(printed(code[-1]))
    spread = summary["random"]["spread"]
    for name in ("EL2N", "GraNd", "margin", "everything"):
        assert summary[name]["mean"] > summary["random"]["mean"] + spread / 2, summary
    # As accurate as with everything, give or take half a per cent.
    assert summary["EL2N"]["mean"] > summary["everything"]["mean"] - 0.5, summary
