"""The shape of the package: who may import whom, what `import diet_jax` costs, and what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diet_jax

PACKAGE = Path(diet_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A file imports its own layer and those below; what is not named here is the shell.
LAYERS = [
    {"types", "typed", "errors", "losses", "batching", "data", "augment", "noise", "detection", "sharding"}
    | {"memory", "device_memory"},
    {"per_example", "window_tuning"},
    {"models", "scores", "pruning", "optimizers", "seeds", "ntk"},
    {"recipe", "backend", "training"},
    {"loop", "passes", "connectivity"},
    {"barriers"},
    {"ensemble"},
    {"scoring", "retraining"},
]
SHELL = len(LAYERS)
HEAVY = ("tensorflow_datasets", "matplotlib", "orbax", "sklearn", "flax", "PIL", "tyro", "grain")


def layer(part: str) -> int:
    return next((height for height, parts in enumerate(LAYERS) if part in parts), SHELL)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, *, at_module_level: bool = False) -> set[str]:
    """Every module that a file imports, outside `if TYPE_CHECKING`; names of packages count as modules."""
    found = set()

    def visit(node: ast.AST) -> None:
        if is_type_checking(node):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            if not (at_module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                visit(child)

    visit(ast.parse(path.read_text()))
    return found


def importers(package: str, **kwargs) -> set[str]:
    """The files that import a package, relative to ours."""
    return {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == package for name in imports(path, **kwargs))
    }


def own_parts(path: Path) -> set[str]:
    """The top-level parts of diet_jax that a file imports."""
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "diet_jax" and len(parts) > 1}


def test_the_layers_name_files_that_exist():
    parts = {part_of(path) for path in FILES}
    assert set().union(*LAYERS) <= parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    if path == PACKAGE / "__init__.py":
        assert own_parts(path) == set()
        return
    height = layer(part_of(path))
    upward = {part for part in own_parts(path) if layer(part) > height}
    assert not upward, f"{path.name} imports {upward}, which are above it"


def test_heavy_packages_have_one_place_each():
    assert {file.split("/")[0] for file in importers("flax", at_module_level=True)} == {"models"}
    assert importers("orbax") == {"checkpoints.py"}
    assert importers("grain") == {"datasets/reading.py"}
    assert importers("grain", at_module_level=True) == set()
    assert {file.split("/")[0] for file in importers("matplotlib")} == {"plotting"}
    assert {file.split("/")[0] for file in importers("tensorflow_datasets")} <= {"datasets"}
    assert importers("tensorflow_datasets", at_module_level=True) == set()
    assert importers("tensorflow") == set()


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, diet_jax; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_the_same_in_all_three_lists():
    """`__all__`, the table of homes and the imports that type checkers see."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if is_type_checking(node))
    seen = {
        alias.name: node.module
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"diet_jax.{home}" for name, home in diet_jax._HOMES.items()}
    assert sorted(diet_jax.__all__) == sorted(diet_jax._HOMES)
    assert set(diet_jax.__all__) <= set(dir(diet_jax))


@pytest.mark.parametrize("name", diet_jax.__all__)
def test_every_public_name_resolves_to_something_documented(name):
    value = getattr(diet_jax, name)
    assert value.__name__ == name
    assert value.__doc__
    # What dataclasses and named tuples write by themselves is no documentation.
    assert not value.__doc__.startswith((f"{name}(", "Alias for"))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'gradn'"):
        _ = diet_jax.gradn
