"""`diet-jax doctor` finds what is wrong with a machine, says what to do, and never fails itself."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import jax
import pytest

from diet_jax.cli import health
from diet_jax.cli.main import main


def states(found) -> dict[str, str]:
    return {finding.what: finding.state for finding in found}


def test_a_machine_that_is_fine(tmp_path, monkeypatch, capsys):
    """The tests run here, so that this one is; what it says of devices is what jax says in this process."""
    monkeypatch.setenv("DIET_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    prepared = tmp_path / "data/few/1.0.0"
    prepared.mkdir(parents=True)
    (prepared / "features.json").write_text("{}")
    main(["doctor", "--data-dir", "data", "--json"])
    output = capsys.readouterr()
    said = json.loads(output.out)
    assert said["fine"] is True
    found = {finding["what"]: finding for finding in said["findings"]}
    assert [d["kind"] for d in found["devices"]["values"]] == [d.device_kind for d in jax.devices()]
    assert found["packages"]["values"]["jax"] == metadata.version("jax")
    assert found["prepared datasets"]["values"]["datasets"] == ["few/1.0.0"]
    assert found["decoded datasets"]["values"]["count"] == 0
    assert found["optional packages"]["values"].keys() == health.EXTRAS.keys()
    assert 0 < found["a small program"]["values"]["error"] < 1e-3 or jax.default_backend() != "cpu"
    # The table is for people, and goes elsewhere.
    assert "this machine" in output.err
    # Looking made nothing.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("JAX_PLATFORMS", "no_such_chip", "unset JAX_PLATFORMS"),
        ("XLA_FLAGS", "--xla_no_such_flag=1", "Unknown flag"),
    ],
)
def test_jax_that_fails_is_a_finding(variable, value, said, tmp_path):
    """XLA ends its process at a flag that it does not know: in a process of its own."""
    command = [sys.executable, "-m", "diet_jax", "doctor", "--quiet"]
    environment = {**os.environ, variable: value}
    paths = str(Path(health.__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [paths, environment.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("devices: jax fails (exit code ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_written_and_a_full_disk(monkeypatch):
    monkeypatch.chdir("/proc")
    monkeypatch.setenv("DIET_JAX_CACHE", "/proc/nowhere")
    assert states(health.folders()) == {"working folder": "wrong", "cache folder": "note"}
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(2**20))
    assert states(health.memory())["disk here"] == "wrong"


def test_packages_that_are_missing_or_too_old(monkeypatch):
    needs = [
        "jax>=0.10",
        "jax>=99",
        "no_such_package>=1",
        "torch; extra == 'bench'",
        "odd; sys_platform == 'x'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needs)
    packages = {finding.what: finding for finding in health.versions()}["packages"]
    assert packages.state == "wrong"
    assert packages.remedy == "pip install 'jax>=99' 'no_such_package>=1'"


def test_flax_and_jax_that_do_not_fit_are_named(monkeypatch):
    versions = {"flax": "0.12.9", "jax": "0.11.2"}
    monkeypatch.setattr(
        health, "metadata", namedtuple("M", "version PackageNotFoundError")(versions.get, KeyError)
    )
    finding = health.flax_nnx(1, "", "ImportError: no DropVar")
    assert finding.state == "note"
    assert "flax 0.12.9 and jax 0.11.2 are known not to fit" in finding.found
    versions["jax"] = "0.10.2"
    assert "known" not in health.flax_nnx(1, "", "ImportError: something else").found
    assert health.flax_nnx(0, "", "").state == "fine"


def test_a_device_that_computes_wrong_numbers_and_one_that_never_answers():
    values = {
        "devices": [{"platform": "cpu", "kind": "cpu", "memory": None}],
        "compile": 1,
        "run": 1,
        "error": 0.2,
    }
    assert states(health.computing(0, json.dumps(values), ""))["a small program"] == "wrong"
    values["error"] = float("nan")
    assert states(health.computing(0, json.dumps(values), ""))["a small program"] == "wrong"
    (silent,) = health.computing(None, "", "no answer")
    assert (silent.state, "did not answer" in silent.found) == ("wrong", True)


def test_a_gpu_that_jax_does_not_use(monkeypatch):
    values = {
        "devices": [{"platform": "cpu", "kind": "cpu", "memory": None}],
        "compile": 1,
        "run": 1,
        "error": 0,
    }
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    first, _ = health.computing(0, json.dumps(values), "")
    assert (first.state, "diet_jax[cuda]" in first.remedy) == ("wrong", True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert states(health.computing(0, json.dumps(values), ""))["devices"] == "fine"
