"""Registries: found by name, one name for one thing, and complete without a list."""

import sys
from typing import NamedTuple

import pytest

import diet_jax as dj
from diet_jax.options.registry import Registry


class Thing(NamedTuple):
    name: str


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A registry of the things of a package, and what adds a module with one thing to that package."""
    name = f"shelf_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", package=name)
    monkeypatch.setattr(sys, "things_for_tests", (registry, Thing), raising=False)

    def add(thing: str) -> None:
        lines = "import sys\nregistry, Thing = sys.things_for_tests\n"
        (tmp_path / name / f"{thing}.py").write_text(f"{lines}registry.register(Thing({thing!r}))\n")

    return registry, add


def test_every_module_of_the_package_is_found_without_a_list(package):
    registry, add = package
    add("lamp")
    add("chair")
    assert registry.names() == ("chair", "lamp")
    assert [thing.name for thing in registry] == ["chair", "lamp"]
    assert registry.find("lamp") == Thing("lamp")


def test_an_unknown_name_lists_the_known_ones(package):
    registry, add = package
    add("lamp")
    with pytest.raises(
        dj.InputError, match=r"no thing is called 'lmap'; did you mean 'lamp'\? there are lamp"
    ):
        registry.find("lmap")
    with pytest.raises(dj.InputError, match="no thing is called 'wxyz'; there are lamp"):
        registry.resolve("wxyz")


def a_function(model):
    return model


def another_function(model):
    return model


def a_score(build, **changes):
    fields = {"label": "own", "formula": "nothing", "reference": "none", "reads": "logits", **changes}
    return dj.Score(name="own", build=build, **fields)


def test_one_name_is_one_thing():
    registry = Registry("score", package="diet_jax.options")
    score = registry.register(a_score(a_function))
    assert registry.register(score) is score
    with pytest.raises(dj.InputError, match=r"the score 'own': .*a_function and .*another_function"):
        registry.register(a_score(another_function))
    assert registry.find("own") is score


def test_the_same_definition_run_again_takes_the_place_of_the_first():
    """A config file that is loaded twice in one process, or a notebook's cell."""
    registry = Registry("score", package="diet_jax.options")
    registry.register(a_score(a_function))
    again = registry.register(a_score(a_function, formula="nothing at all"))
    assert registry.find("own") is again


def test_the_librarys_own_are_complete_and_described():
    assert {"el2n", "grand", "grand_last_layer", "forgetting", "input_norm", "random"} <= set(
        dj.SCORES.names()
    )
    assert {"highest", "lowest", "window"} <= set(dj.RULES.names())
    for score in dj.SCORES:
        assert score.label
        assert score.formula
        assert score.reference
    for rule in dj.RULES:
        assert rule.words
        assert rule.reference
