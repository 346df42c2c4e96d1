"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

import diet_jax

PACKAGE = Path(diet_jax.__file__).parent
MODULES = sorted(
    ".".join(("diet_jax", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    source = Path(module.__file__).read_text(encoding="utf-8")
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner()
    found = [test for test in finder.find(module, name) if test.examples]
    for test in found:
        runner.run(test)
    results = runner.summarize(verbose=False)
    # Decorated objects must not slip through: every prompt in the file belongs to an example that ran.
    assert results.attempted == source.count(">>>")
    assert results.failed == 0


def test_the_public_functions_have_examples():
    finder = doctest.DocTestFinder(recurse=False)
    functions = [getattr(diet_jax, name) for name in diet_jax.__all__]
    functions = [f for f in functions if callable(f) and not isinstance(f, type)]
    assert len(functions) > 15
    without = [f.__name__ for f in functions if not any(t.examples for t in finder.find(f, f.__name__))]
    assert without == ["prepare_dataset"]  # It needs an archive that was downloaded.
