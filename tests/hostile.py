"""Every public function with each argument of a valid call replaced by what it is not.

`python tests/hostile.py` prints the counts, `--list KIND` the calls of a kind; each call has 5 seconds.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diet_jax as dj

SECONDS = 5
# They compile a training.
SLOW, COMPILES = ("score_ensemble", "train_ensemble", "train", "train_from", "stream_between"), 25
# Classes and registries: what of them is called. The others are called themselves.
METHODS = {"Dataset": "from_arrays", "KeepFile": "from_mask", "ScoreFile": "from_seeds"}
OPTIONS = ("AdamWOptions", "DataConfig", "ModelConfig", "RetrainConfig", "ScoreConfig", "SelectConfig")
RECORDS = ("EnsembleScores", "EnsembleTraining", "Examples", "ForgettingState", "NoisyLabels", "Model")
RECORDS += ("Normalization", "RunResult", "Splits", "TrainState", "Variables", "TrainedNetwork")
RECORDS += ("StreamedDataset",)
# Named tuples and records check nothing; the others are no functions of their own.
LEFT_OUT = {*RECORDS, "InputError", "SCORES", "SOURCES", "connectivity", "noise", "ntk", "Source", "Program"}
LEFT_OUT |= {"Fold", "DynamicsLog", "run", "RunConfig", "prepare_dataset", "load_dataset"}


def array_like(valid: Any) -> bool:
    return isinstance(valid, np.ndarray | jax.Array) and not jnp.issubdtype(valid.dtype, jax.dtypes.prng_key)


def hostile_values(valid: Any) -> dict[str, Any]:
    """What an argument is replaced by, by name; arrays are also damaged where they are right otherwise."""
    values: dict[str, Any] = {
        "None": None,
        "text": "x",
        "object": object(),
        "ragged": [[1, 2], [3]],
        "five axes": np.zeros((2, 2, 2, 2, 2), np.float32),
        "half": 0.5,
        "NaN": float("nan"),
        "infinity": float("inf"),
        "-1": -1,
        "0": 0,
        "2**31": 2**31,
        "2**63": 2**63,
        "True": True,
        "complex": 1j,
        "empty": np.zeros(0, np.float32),
        "words": np.array(["a", "b", "c", "d", "e", "f"]),
        "dict": {"a": 1},
    }
    if array_like(valid) or (isinstance(valid, list) and valid and isinstance(valid[0], int | float)):
        array = np.asarray(valid)
        if array.ndim:
            mask = np.zeros(array.shape, bool)
            mask.flat[0] = True
            values |= {
                "masked": np.ma.array(array, mask=mask),
                "too long": np.concatenate([array, array[:1]]),
                "too short": array[:-1],
                "one axis more": array[None],
            }
        values |= {"complex array": array + 1j, "of objects": array.astype(object)}
        values |= {"of floats": array + np.float32(0.5), "of text": array.astype(str)}
        if array.dtype.kind in "iu":
            values |= {"+ 2**32": array.astype(np.int64) + 2**32, "- 2**32": array.astype(np.int64) - 2**32}
            values |= {"below 0": array.astype(np.int64) - 1, "too large": array.astype(np.int64) + 10**6}
            values |= {"of booleans": array > 0}
        elif array.dtype.kind == "f":
            values |= {"with NaN": np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)}
        elif array.dtype == bool:
            values |= {"of numbers": array.astype(np.float32), "of integers": array.astype(int)}
    return values


@dataclasses.dataclass
class Call:
    """A valid call."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    use: Callable[[Any], Any] = lambda result: result

    def arguments(self) -> dict[str, Any]:
        """By name, with the defaults of those that are not given."""
        signature = inspect.signature(self.fn)
        bound = signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
        named = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return {name: value for name, value in bound.arguments.items() if kinds[name] not in named}

    def with_value(self, name: str, value: Any) -> Any:
        bound = inspect.signature(self.fn).bind(*self.args, **self.kwargs)
        bound.arguments[name] = value
        for given, argument in bound.arguments.items():
            if isinstance(argument, dj.TrainState):  # Trainings use it up.
                bound.arguments[given] = jax.tree.map(jnp.copy, argument)
        result = self.use(self.fn(*bound.args, **bound.kwargs))
        return jax.block_until_ready(result)


def first_of(result: Any) -> Any:
    return next(result, None) if isinstance(result, Iterator) else result


def recorded(name: str, table: Any) -> Call:
    """The first call of a public function in its entry of `CALLS`."""
    found: list[Call] = []
    target = getattr(dj, name)

    def spy(fn: Any) -> Any:
        @functools.wraps(fn)
        def record(*args: Any, **kwargs: Any) -> Any:
            found.append(Call(fn, args, kwargs, USES.get(name, first_of)))
            own = [jax.tree.map(jnp.copy, a) if isinstance(a, dj.TrainState) else a for a in args]
            return fn(*own, **kwargs)

        return record

    class Spied:
        def __getattr__(self, attribute: str) -> Any:
            value = getattr(dj, attribute)
            if attribute != name:
                return value
            if name in METHODS:
                return SimpleNamespace(**{METHODS[name]: spy(getattr(target, METHODS[name]))})
            return spy(target)

    old = table.dj, table.jitted
    table.dj, table.jitted = Spied(), lambda fn, *args: fn(*args)
    try:
        CASES.get(name, table.CALLS.get(name))(table.Given(table.PLAIN, *places()))
    finally:
        table.dj, table.jitted = old
    if not found:
        raise LookupError(f"{name} is not called by its entry")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((found[0].args, found[0].kwargs))):
        with jax.disable_jit():
            return recorded(name, table)
    return found[0]


@functools.cache
def places() -> tuple[Path, Path]:
    """A folder to write to, and one of images."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    for split, each in (("train", 15), ("test", 3)):
        for label in ("cat", "dog"):
            (folder / "images" / split / label).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 256, (6, 6, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{i}.png")
    return folder, folder / "images"


# What the functions and models that are returned are called with.
USES: dict[str, Callable[[Any], Any]] = {
    "over_seeds": lambda fn: fn({"key": dj.seed_keys(0, "score", 2), "w": jnp.float32([1, 2])}),
    **dict.fromkeys(
        ("from_equinox", "from_functions", "from_linen", "from_nnx", "create_model"),
        lambda model: model.init(jax.random.key(0), (6, 6, 1)),
    ),
    "flip_labels": lambda noisy: noisy.dataset.labels,
}


def _streamed(g: Any) -> Any:
    import test_precision as table

    table.dj.load_streamed(f"folder:{g.images}", cache_dir=g.folder / "cache", image_size=6)


def _labels(g: Any) -> Any:
    import test_precision as table

    path = g.folder / "labels.csv"
    lines = (f"{name},{label}" for name, label in zip(table.DATASET.ids, table.LABELS, strict=True))
    path.write_text("id,label\n" + "\n".join(lines) + "\n")
    table.dj.read_labels(path, table.DATASET)


def _score(g: Any) -> Any:
    import test_precision as table

    about = {"name": "own", "label": "own", "formula": "own", "reference": "none", "reads": "logits"}
    table.dj.Score(**about, build=lambda model: functools.partial(dj.el2n, model.predict))


def _rule(g: Any) -> Any:
    import test_precision as table

    table.dj.Rule(name="own", words="own", reference="none", select=dj.keep_highest)


def _options(name: str) -> Callable[[Any], Any]:
    def call(g: Any) -> Any:
        import test_precision as table

        getattr(table.dj, name)()

    return call


def _linen(g: Any) -> Any:
    import test_precision as table

    table.dj.from_linen(table.LinenNet())


def _forgetting(g: Any) -> Any:
    import test_precision as table

    table.dj.forgetting_scores(jnp.array([[True, False], [False, False]]))


def _draw(g: Any) -> Any:
    import matplotlib
    import test_precision as table

    matplotlib.use("Agg")
    table.dj.draw_examples(table.DATASET, np.arange(6.0))


def _convolution(name: str) -> Callable[[Any], Any]:
    def call(g: Any) -> Any:
        import test_precision as table

        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        getattr(table.dj, name)(g.inputs, g.array(table.KERNEL), (1, 1), "SAME", **options)

    return call


def _load(g: Any) -> Any:
    import test_precision as table

    with contextlib.suppress(dj.InputError):
        table.dj.load_checkpoint(g.folder / "no run", seed=0, step=1)


CASES: dict[str, Callable[[Any], Any]] = {
    "load_streamed": _streamed,
    "read_labels": _labels,
    "from_linen": _linen,
    "Score": _score,
    "Rule": _rule,
    "forgetting_scores": _forgetting,
    "draw_examples": _draw,
    "load_checkpoint": _load,
    **{n: _convolution(n) for n in ("cpu_convolution", "matmul_convolution", "unrolled_convolution")},
    **{name: _options(name) for name in (*OPTIONS, "TrainConfig", "make_mesh")},
}


def public_names() -> list[str]:
    """The functions and classes that are called."""
    return sorted(set(dj.__all__) - LEFT_OUT)


def all_cases(names: list[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """Every function, argument and hostile value by name."""
    import test_precision as table

    for name in names or public_names():
        call = call_of(name, table)
        for argument, valid in call.arguments().items():
            for hostile in hostile_values(valid):
                yield name, argument, hostile


@functools.cache
def call_of(name: str, table: Any) -> Call:
    if name == "RULES":
        return Call(dj.RULES.find("highest").check_fraction, (0.5,), {})
    return recorded(name, table)


class TooLong(BaseException):
    """A call takes more than its seconds."""


def outcome(name: str, argument: str, hostile: str) -> tuple[str, str]:
    """How a hostile call ends, and what is said."""
    import test_precision as table

    call = call_of(name, table)

    def stop(*_: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(COMPILES if name in SLOW else SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call.with_value(argument, hostile_values(call.arguments()[argument])[hostile])
        signal.alarm(0)
        return "answer", repr(result)[:150].replace("\n", " ")
    except TooLong:
        return "hang", f"more than {SECONDS} s"
    except dj.InputError as error:
        return "refused", str(error)[:300]
    except Exception as error:
        if any("a function that diet_jax was given" in note for note in getattr(error, "__notes__", ())):
            return "named", f"{type(error).__name__}: {str(error)[:150]}".replace("\n", " ")
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = next(
            (p for p in ("numpy", "jaxlib", "jax", "flax", "equinox", "optax") if f"/{p}/" in frame.filename),
            "own" if "diet_jax" in frame.filename else Path(frame.filename).name,
        )
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/diet_jax/" in f.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "-"
        return "inside", f"{where}@{at}: {type(error).__name__}: {str(error)[:120]}".replace("\n", " ")
    finally:
        signal.alarm(0)


def work(cases: list[tuple[str, str, str]]) -> None:
    for case in cases:
        print(json.dumps(["start", *case]), flush=True)
        print(json.dumps(["end", *case, *outcome(*case)]), flush=True)


def run_all(cases: list[tuple[str, str, str]]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Runs cases in a process that is replaced where one brings it down."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    left = cases
    while left:
        with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
            json.dump(left, file)
            file.flush()
            command = [sys.executable, __file__, "--worker", file.name]
            limited = ["bash", "-c", 'ulimit -v 24000000; exec "$@"', "-", *command]
            worker = subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            last: Any = None
            timer: Any = None
            killed = []

            def kill(worker: Any = worker, killed: Any = killed) -> None:
                killed.append(1)
                worker.kill()

            timer = threading.Timer(120, kill)
            timer.start()
            for line in worker.stdout or ():
                with contextlib.suppress(ValueError):
                    kind, *rest = json.loads(line)
                    timer.cancel()
                    timer = threading.Timer(SECONDS * 6, kill)
                    timer.start()
                    if kind == "start":
                        last = tuple(rest)
                    else:
                        found[tuple(rest[:3])] = (rest[3], rest[4])
                        last = None
            timer.cancel()
            worker.wait()
        if last:
            found[last] = ("hang", "killed") if killed else ("crash", f"exit status {worker.returncode}")
        done = [case for case in left if case in found]
        if not done:
            raise SystemExit(f"the worker did nothing: exit status {worker.returncode}")
        left = [case for case in left if case not in found]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="append", default=[])
    parser.add_argument("--save")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--worker")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    if args.worker:
        work([tuple(case) for case in json.loads(Path(args.worker).read_text())])
        return
    cases = list(all_cases(args.names))
    if args.sample:
        cases = random.Random(0).sample(cases, args.sample)
    found = run_all(cases)
    if args.save:
        Path(args.save).write_text("\n".join(json.dumps([*case, *end]) for case, end in found.items()))
    counts = collections.Counter(kind for kind, _ in found.values())
    for case, (kind, said) in found.items():
        if kind in args.list:
            print(*case, kind, said, sep=" | ")
    print(len(found), dict(counts))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
