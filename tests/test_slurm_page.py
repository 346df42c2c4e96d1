"""Job script of docs/slurm.md with stand-ins for Slurm: stopped and requeued, it ends in the same table."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"```bash\n(#!/bin/bash.*?)```", PAGE, re.DOTALL)[1]
# A small run in place of CIFAR-10; one by one, as seeds train with --minutes, so that they can stop.
SRUN = f"""#!/bin/bash
shift 3  # diet-jax run CONFIG
exec {sys.executable} -m diet_jax run --train.epochs 60 --score.num-seeds 2 --retrain.num-seeds 2 \\
    --select.fractions 0.5 --score.names el2n "$@"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> requeued
"""
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash")


@pytest.fixture
def cluster(tmp_path):
    """A function that starts the script in a folder of its own, as Slurm would."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / "diet.sbatch").write_text(SCRIPT, encoding="utf-8")
    env = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "17",
    }

    def start(name, restarts=0):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        env.update(SLURM_SUBMIT_DIR=str(folder), SLURM_RESTART_COUNT=str(restarts))
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return folder, subprocess.Popen([BASH, tmp_path / "diet.sbatch"], env=env, cwd=folder, **quiet)

    return start


def test_the_script_is_one():
    subprocess.run([BASH, "-n"], input=SCRIPT, text=True, check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT, re.MULTILINE))
    assert "requeue" in options
    assert options["signal"] == "INT@120"
    hours, minutes, _ = map(int, options["time"].split(":"))
    given = int(re.search(r"--minutes (\d+)", SCRIPT)[1])
    assert given < 60 * hours + minutes - 2  # Else the signal would come first.


@pytest.mark.parametrize(("code", "restarts", "requeued"), [(2, 0, False), (3, 0, True), (3, 20, False)])
def test_what_would_fail_again_is_not_requeued(cluster, tmp_path, code, restarts, requeued):
    (tmp_path / "bin" / "srun").write_text(f"#!/bin/bash\nexit {code}\n", encoding="utf-8")
    folder, job = cluster("failing", restarts)
    job.communicate(timeout=60)
    assert (folder / "requeued").exists() == requeued
    assert job.returncode == (0 if requeued else code)


@pytest.mark.slow
def test_a_job_that_was_stopped_ends_in_the_same_table(cluster):
    whole, job = cluster("whole")
    assert "finished" in job.communicate(timeout=300)[0]
    assert not (whole / "requeued").exists()

    cut, job = cluster("cut")
    log = cut / "runs" / "cifar10" / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.read_text(encoding="utf-8").count("\n") > 20, job)
    assert stop(job)
    job.communicate(timeout=60)
    assert (cut / "requeued").read_text(encoding="utf-8") == "requeue 17\n"
    assert not (cut / "runs" / "cifar10" / "provenance.json").exists()

    _, job = cluster("cut", restarts=1)
    assert "finished" in job.communicate(timeout=300)[0]
    assert (cut / "requeued").read_text(encoding="utf-8") == "requeue 17\n"
    tables = [(folder / "runs" / "cifar10" / "table.csv").read_bytes() for folder in (whole, cut)]
    assert tables[0] == tables[1]


def wait_for(condition, job):
    end = time.monotonic() + 200
    while not condition():
        assert job.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def stop(job):
    """Sends SIGINT to the command alone, as Slurm does without B:, and says whether there was one."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job.pid)], capture_output=True, text=True)
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGINT)
    return bool(listed.stdout.split())
