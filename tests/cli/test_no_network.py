"""Nothing of the library opens a connection: not at import, not in a run on data that is prepared."""

import subprocess
import sys

import pytest

# Python tells of every socket before it exists; XLA's own, of several processes, are none of Python's.
WATCHED = """
import socket, sys

def watch(event, details):
    told = event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
    if told or (event == "socket.__new__" and details[1] in (socket.AF_INET, socket.AF_INET6)):
        sys.stderr.write(f"NETWORK {event} {details[1:]}\\n")

sys.addaudithook(watch)
"""
EVERYTHING = """
import diet_jax
for name in diet_jax.__all__:
    getattr(diet_jax, name)
"""
RUN = "from diet_jax.cli.main import command; sys.exit(command())"
SHORT = """--model.name mlp --model.widths 4 --train.steps 4 --train.batch-size 6 --score.epoch 0
    --score.num-seeds 1 --score.names el2n --select.fractions 0.5 --retrain.num-seeds 1
    --no-compilation-cache"""


def watched(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WATCHED + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_connection_would_be_seen():
    assert "NETWORK socket.__new__" in watched("socket.socket(socket.AF_INET)").stderr


def test_importing_all_there_is_opens_no_socket():
    done = watched(EVERYTHING)
    assert (done.returncode, "NETWORK" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("streaming", [(), pytest.param(("--data.streaming",), marks=pytest.mark.slow)])
def test_a_run_on_prepared_data_opens_no_socket(streaming, image_records, tmp_path):
    data = ["--data.name", "mnist", "--data.data-dir", str(image_records), *streaming]
    done = watched(RUN, "run", "configs/digits.py", *data, *SHORT.split(), "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    assert (tmp_path / "run" / "table.csv").exists()
