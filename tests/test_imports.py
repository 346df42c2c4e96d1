"""The shape of the package: who may import whom, what `import diet_jax` costs, and what is public."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import diet_jax
from diet_jax.options.registry import Registry

PACKAGE = Path(diet_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# The folders from the ground up: a file imports its own folder and those before it. errors.py and types.py,
# the words that all share, come first; __init__.py and __main__.py are the face, which nothing inside uses.
LAYERS = [
    "errors",
    "types",
    "checks",
    "options",
    "devices",
    "files",
    "data",
    "models",
    "per_example",
    "scores",
    "selection",
    "training",
    "ensemble",
    "analysis",
    "plotting",
    "experiments",
    "report",
    "cli",
]
FACE = ("__init__", "__main__")
# Named tuples have public names with an underscore.
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
HEAVY = ("tensorflow_datasets", "matplotlib", "orbax", "sklearn", "flax", "PIL", "tyro", "grain", "bokeh")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@functools.cache
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

    visit(ast.parse(path.read_text(encoding="utf-8")))
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


def test_the_layers_are_the_folders():
    assert {part_of(path) for path in FILES} == {*LAYERS, *FACE}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    if part_of(path) in FACE:
        assert own_parts(path) <= {"cli"}
        return
    below = LAYERS[: LAYERS.index(part_of(path)) + 1]
    upward = own_parts(path) - {*below, "__version__"}
    assert not upward, f"{path.relative_to(PACKAGE)} imports {upward}, which are above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_private_names_stay_in_their_module(path):
    """A name with a leading underscore is used where it is defined and nowhere else."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {name.rsplit(".", 1)[-1] for name in imports(path) if name.startswith("diet_jax.")}
    used = [name.rsplit(".", 1)[-1] for name in imports(path) if name.startswith("diet_jax.")]
    used += [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    ]
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    assert private <= OF_NAMED_TUPLES


def test_heavy_packages_have_one_place_each():
    assert {file.split("/")[0] for file in importers("flax", at_module_level=True)} == {"models"}
    assert importers("orbax") == {"training/checkpoint_files.py"}
    assert importers("grain") == {"data/streaming/reading.py"}
    assert importers("grain", at_module_level=True) == set()
    assert {file.split("/")[0] for file in importers("matplotlib")} == {"plotting"}
    assert {file.split("/")[0] for file in importers("tensorflow_datasets")} <= {"data"}
    assert importers("tensorflow_datasets", at_module_level=True) == set()
    assert importers("tensorflow") == set()


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, diet_jax; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


NAMESPACES = ("connectivity", "noise", "ntk")


def test_public_names_stand_once_and_where_they_are_defined():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert len(homes) == sum(len(node.names) for node in stub.body if isinstance(node, ast.ImportFrom))
    assert sorted(diet_jax.__all__) == sorted(homes)
    assert set(diet_jax.__all__) <= set(dir(diet_jax))
    for name, home in homes.items():
        value = getattr(diet_jax, name)
        if name in NAMESPACES:
            assert value.__name__ == f"diet_jax.{home}.{name}"
        elif not isinstance(value, Registry):
            assert value.__module__ == f"diet_jax.{home}"


@pytest.mark.parametrize("name", diet_jax.__all__)
def test_every_public_name_resolves_to_something_documented(name):
    value = getattr(diet_jax, name)
    assert isinstance(value, Registry) or value.__name__.rsplit(".", 1)[-1] == name
    assert value.__doc__
    # What dataclasses and named tuples write by themselves is no documentation.
    assert not value.__doc__.startswith((f"{name}(", "Alias for"))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="gradn"):
        _ = diet_jax.gradn
