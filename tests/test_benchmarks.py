"""The benchmarks: their own arithmetic, and that each script starts. What they measure is not tested."""

import functools
import importlib
import importlib.util
import json
import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import diet_jax as dj
from diet_jax.data.sources.tfds.archives import Contents
from diet_jax.data.sources.tfds.write import write_prepared
from diet_jax.devices.progress import Progress

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "class Options" in path.read_text(encoding="utf-8")
)

sys.path.insert(0, str(BENCHMARKS))

import calibration  # noqa: E402
import convolution  # noqa: E402
import cost  # noqa: E402
import counts  # noqa: E402
import counts_training  # noqa: E402
import el2n  # noqa: E402
import ensemble  # noqa: E402
import forms  # noqa: E402
import grand  # noqa: E402
import measure  # noqa: E402
import pack  # noqa: E402
import programs  # noqa: E402
import remote  # noqa: E402
import rounding  # noqa: E402
import run_all  # noqa: E402
import torch_peers  # noqa: E402
import train_step  # noqa: E402
import workloads  # noqa: E402


def numbers(path: Path) -> list[dict]:
    return json.loads(path.read_text())["rows"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_says_what_it_does_and_to_what_its_ratios_are(name, capsys):
    module = importlib.import_module(name)
    assert f"Command: python benchmarks/{name}.py" in module.__doc__ or name == "run_all"
    assert "Floor:" in module.__doc__ or name in ("pack", "run_all")
    with pytest.raises(SystemExit) as ended:
        tyro.cli(module.Options, args=["--help"])
    assert ended.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_make_bench_runs_every_script_that_measures():
    scripts = {script for script, *_ in run_all.SETS.values()}
    assert scripts == {f"{name}.py" for name in SCRIPTS} - {"run_all.py", "pack.py"}


def test_every_set_has_options_that_its_script_knows():
    for name, (script, *_) in run_all.SETS.items():
        options = run_all.Options(rounds=2)
        _, _, *args = run_all.command(name, options)
        parsed = tyro.cli(importlib.import_module(Path(script).stem).Options, args=args)
        assert parsed.json == Path(f"{name}.json")
        assert name in run_all.WITHOUT_ROUNDS or parsed.rounds == 2


def test_an_unknown_set_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no set is called grnad"):
        run_all.main(run_all.Options(only=("grnad",), out=tmp_path))


def test_variants_take_turns_and_each_is_first_in_turn():
    calls = []
    variants = {name: functools.partial(calls.append, name) for name in "abc"}
    timings = measure.interleaved(variants, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert [len(timing.later) for timing in timings.values()] == [3, 3, 3]


def test_ratios_are_taken_within_rounds():
    ticks = iter([0.0, 0.0, 1.0, 3.0, 40.0, 10.0])  # first calls, then each round in the order it ran
    timings = measure.interleaved({"a": lambda: None, "b": lambda: None}, 2, timer=lambda _: next(ticks))
    assert timings["b"].ratio_to(timings["a"]) == (3.5, 3.0, 4.0)


def test_short_calls_are_timed_together(monkeypatch):
    calls, clock = [], iter(range(100))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock) / 20)
    assert measure.seconds_per_call(lambda: calls.append(1)) == pytest.approx(0.25 / 4)
    assert len(calls) == 4


def test_a_long_call_is_timed_by_itself(monkeypatch):
    calls = []
    monkeypatch.setattr(measure, "TIMED_S", 0)
    assert measure.seconds_per_call(lambda: calls.append(1)) > 0
    assert len(calls) == 1


@pytest.mark.parametrize("limit", [10, 999, 1000, 1001, 123_456])
def test_the_largest_batch_is_found_with_few_compiles(limit):
    asked = []

    def size_of(count: int) -> int:
        asked.append(count)
        return 100 + 3 * count

    fits, too_many = programs.largest_that_fits(size_of, limit, first=32, step=16)
    assert fits == 0 or size_of(fits) <= limit
    assert limit < size_of(too_many)
    assert too_many - fits <= 16
    assert len(set(asked)) <= 5


def test_the_search_gives_up_in_time():
    fits, too_many = programs.largest_that_fits(lambda count: 7, 10, first=1, step=1, most_calls=5)
    assert (fits, too_many) == (16, None)


@pytest.mark.slow
def test_a_compiled_program_tells_its_memory():
    program = programs.compiled(lambda x: (x @ x).sum(), jnp.ones((64, 64)))
    assert program(jnp.ones((64, 64))) == 64**3
    assert program.total_bytes >= program.temporary_bytes + 4 * 64 * 64
    assert program.trace_s > 0
    assert program.compile_s > 0


def test_the_lowest_tenth_has_a_difference_of_its_own():
    reference = np.arange(1.0, 21)
    scores = reference.copy()
    scores[1] *= 1.01
    scores[15] *= 0.5
    assert grand.differences(scores, reference) == pytest.approx((0.5, 0.01))


def test_the_authors_formula_is_grand():
    model = dj.create_model("mlp", num_classes=3, widths=[4])
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 2))
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype(np.float32)
    ways = [functools.partial(way, model.predict) for way in (dj.grand_vmap, grand.authors_formula)]
    expected, scores = (jax.jit(way)(variables, images, np.array([0, 1, 2, 0, 1], np.int32)) for way in ways)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_grand_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TIMED_S", 0.001)
    path = tmp_path / "grand.json"
    options = {"batch_size": 4, "check_examples": 8, "jacrev_batch": 2, "limit_gib": 0, "rounds": 1}
    grand.main(grand.Options(network="mlp", json=path, **options))
    table = {(row["what"], row["variant"]): row for row in numbers(path)}
    exact = table["mlp, float32, batch 4", "grand"]
    assert exact["difference"] < 1e-5
    assert exact["difference_lowest"] <= exact["difference"]
    assert ("mlp, float32, batch 2", "authors' formula (jacrev)") in table


def test_the_largest_batches_are_those_of_the_programs(monkeypatch):
    def compiled(way, variables, images, labels):
        mib = 1 if way.func is dj.grand else 3
        return programs.Program(None, 0, 0, 0, mib * 2**20 * images.shape[0])

    monkeypatch.setattr(grand, "compiled", compiled)
    images = np.zeros((4, 32, 32, 3))
    known = {name: compiled(way, {}, images, None) for name, way in grand.ways_of(None).items()}
    result = grand.largest_batches(grand.Options(network="mlp", batch_size=4, limit_gib=1), {}, known)
    assert (result["grand"]["fits"], result["grand_vmap"]["fits"]) == (1024, 336)
    assert result["ratio"] == pytest.approx(1024 / 336)


def test_el2n_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TIMED_S", 0.001)
    el2n.main(el2n.Options(networks=("mlp",), batch_size=4, rounds=1, json=tmp_path / "el2n.json"))
    assert [row["variant"] for row in numbers(tmp_path / "el2n.json")] == ["forward pass", "el2n"]


@pytest.mark.slow
def test_a_bare_training_ends_where_the_librarys_does(tmp_path, monkeypatch):
    monkeypatch.setitem(train_step.STEPS, "mlp, digits", 40)
    # Optax's own schedule, of the training by hand, promotes.
    with jax.numpy_dtype_promotion("standard"):
        train_step.main(train_step.Options(("mlp, digits",), rounds=1, json=tmp_path / "step.json"))
    assert len(numbers(tmp_path / "step.json")) == 3


def test_trainings_that_end_apart_are_told():
    one = {"w": jnp.array([1.0, 2.0]), "b": jnp.zeros(2)}
    other = {"w": jnp.array([1.0, 1.5]), "b": jnp.zeros(2)}
    assert train_step.largest_difference(one, one) == 0
    assert train_step.largest_difference(one, other) == 0.25


@pytest.mark.slow
def test_ensembles_are_timed_against_the_loop_and_one_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TIMED_S", 0.001)
    options = ensemble.Options(
        workloads=("mlp, digits", "small_cnn, 28x28"),
        convolutions=("matmul",),
        seeds=(2,),
        hows=("loop", "auto", "unroll"),
        unroll_up_to=1,
        steps=1,
        batch_size=4,
        matmul_size=16,
        rounds=1,
        json=tmp_path / "ensemble.json",
    )
    ensemble.main(options)
    table = numbers(tmp_path / "ensemble.json")
    auto = "map" if jax.default_backend() == "cpu" else "vmap"
    assert [row["variant"] for row in table] == ["loop", f"auto ({auto})", "one seed"] * 2
    assert {row["floor"] for row in table} == {"loop"}
    for row in table:
        assert row["examples_per_s"] == pytest.approx(4 / row["later_calls_s"][0])
        assert row["of_peak"] > 0
    for loop, _, one in (table[:3], table[3:]):
        assert loop["gain"] == pytest.approx(2 * one["later_calls_s"][0] / loop["later_calls_s"][0])


def test_operations_of_a_step_are_counted_as_usual():
    options = {"steps": 1, "batch_size": 16, "widths": [64]}
    dense = ensemble.step_flops(workloads.workload("mlp, digits", **options))
    # 64 -> 64 -> 10: forward, to the inputs, to the weights.
    assert dense == 3 * 2 * 16 * (64 * 64 + 64 * 10)
    works = [workloads.workload("cnn, 28x28", **options, convolution=form) for form in ("lax", "matmul")]
    # 3x3 convolutions 28x28x1 -> 28x28x64 -> 14x14x64, then 64 -> 10.
    layers = 28 * 28 * 9 * 64 + 14 * 14 * 9 * 64 * 64 + 64 * 10
    assert [ensemble.step_flops(work) for work in works] == [3 * 2 * 16 * layers] * 2


@pytest.mark.slow
def test_convolutions_are_timed_in_all_forms(tmp_path):
    uses = ("gradient in a loop", "EL2N")
    path = tmp_path / "convolution.json"
    convolution.main(convolution.Options(("small_cnn, 28x28",), batch_size=2, uses=uses, rounds=1, json=path))
    table = numbers(path)
    assert [row["variant"] for row in table] == ["lax", "matmul", "cpu"] * 2
    assert table[0]["median_s"] == pytest.approx(table[0]["later_calls_s"][0] / convolution.LOOP)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_form_of_every_layer_is_timed(dtype, tmp_path, monkeypatch, capsys):
    layers = {forms.Layer(4, 2, 3, 3, 1): 2, forms.Layer(4, 2, 3, 1, 2): 1}
    monkeypatch.setattr(forms, "layers_of", lambda network: layers)
    paths = {kind: tmp_path / f"forms.{kind}" for kind in ("json", "table", "figure")}
    paths["figure"] = tmp_path / "forms.png"
    forms.main(forms.Options(dtype=dtype, batch_size=2, rounds=1, **paths))
    table = numbers(paths["json"])
    names = {row["variant"] for row in table if row["what"] == "3×3, 2 → 3, 4×4"}
    own = {"offset", "pixel", "patch gram", "patch product", "split product"}
    assert names == own | {forms.FLOOR, forms.VMAP}
    assert sum(row["chosen"] for row in table) == len(layers)
    assert table[-1]["counts"].keys() == set(calibration.COUNTS)
    assert "Fitted to these times: Costs(" in capsys.readouterr().out
    assert "split product" in paths["table"].read_text()
    assert paths["figure"].stat().st_size > 10_000


COMPILED = """
%fused_dot (p: f32[8,4,2], q: f32[8,4,3]) -> f32[8,2,3] {
  %p = f32[8,4,2]{2,1,0} parameter(0)
  %q = f32[8,4,3]{2,1,0} parameter(1), metadata={op_name="second"}
  ROOT %dot.7 = f32[8,2,3]{2,1,0} dot(%p, %q), lhs_batch_dims={0}
}

%fused_dot.1 (r: f32[8,4,2], s: f32[8,4,3]) -> f32[8,2,3] {
  %r = f32[8,4,2]{2,1,0} parameter(0)
  %s = f32[8,4,3]{2,1,0} parameter(1)
  ROOT %dot.9 = f32[8,2,3]{2,1,0} dot(%r, %s), lhs_batch_dims={0}
}

ENTRY %main (a: f32[8,4,2], b: f32[8,4,3]) -> bf16[2] {
  %a = f32[8,4,2]{2,1,0} parameter(0)
  %b = f32[8,4,3]{2,1,0} parameter(1)
  %one = f32[8,2,3]{2,1,0} fusion(%a, %b), kind=kCustom, calls=%fused_dot, metadata={op_name="x"}
  %two = f32[8,2,3]{2,1,0} fusion(%a, %b), kind=kCustom, calls=%fused_dot.1
  %cudnn-conv.1 = (f32[4]{0}, u8[0]{0}) custom-call(%one, %two), custom_call_target="__cudnn$convForward"
  %get-tuple-element = f32[4]{0} get-tuple-element(%cudnn-conv.1), index=0
  ROOT %copy = bf16[2]{0} copy(%get-tuple-element)
}
"""


def test_kernels_bytes_and_kinds_of_a_compiled_program():
    """Two equal products under other names are one kind."""
    found = counts.counted(COMPILED)
    assert (found["kernels"], found["convolutions"], found["matrix products"]) == (4, 1, 1)
    product = 4 * 8 * (4 * 2 + 4 * 3 + 2 * 3)
    assert found["bytes"] == 2 * product + (16 + 2 * 4 * 48) + (4 + 16)


def test_the_step_in_a_compiled_loop_is_counted(tmp_path, monkeypatch, capsys):
    """The longest loop's body, once: not the call around it, nor a shorter loop."""
    loop = COMPILED.replace("ENTRY %", "%body.").replace("feature_group_count=1", "feature_group_count=2")
    around = """
%cond (p: s32[]) -> pred[] {
  ROOT %less = pred[] constant(true)
}

%short (p: s32[]) -> s32[] {
  ROOT %p = s32[] parameter(0)
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2] parameter(0)
  %a = f32[2] while(%x), condition=%cond, body=%short
  %b = f32[2] copy(%a)
  ROOT %w = f32[2] while(%b), condition=%cond, body=%BODY
}
"""
    name = re.search(r"^%(body\.[\w.-]+) \(", loop, re.M)[1]
    text = loop + around.replace("BODY", name)
    alone, found = counts.counted(COMPILED), counts_training.counted(text)
    assert found["kernels"] == alone["kernels"]
    assert found["gb"] == pytest.approx(1e-9 * alone["bytes"])
    calls = sum(found[what] for what in counts_training.CALLS)
    assert calls == COMPILED.count('custom_call_target="__cudnn$conv')
    options = counts_training.Options(table=tmp_path / "table.md")
    row = {"program": "one", **found, "temporary_mib": 3.0, "compile_s": 2.0}
    assert counts_training.table(options, [row])[-1].startswith(f"| one | {found['kernels']} | ")
    monkeypatch.setattr(counts, "find_spec", lambda name: None)
    counts_training.main(options)
    assert "jax-cuda12-plugin is not installed" in capsys.readouterr().out
    assert not options.table.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "grouped"), [pytest.param("vmap, lax", True, marks=pytest.mark.slow), ("vmap, unrolled", False)]
)
def test_the_step_that_is_counted_is_the_librarys(case, grouped, monkeypatch):
    """Lowered here in place of compiled for a GPU: three networks of one program."""
    monkeypatch.setattr(counts, "for_h100", lambda fn, *args: jax.jit(fn).lower(*args))
    options = counts_training.Options(seeds=3, width=2, batch_size=4)
    lowered, seconds = counts_training.compiled(options, *counts_training.CASES[case])
    assert ("feature_group_count = 3" in lowered.as_text()) == grouped
    assert seconds > 0


@pytest.mark.slow
def test_layers_are_counted_for_both_backends(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(counts, "find_spec", lambda name: None)
    path = tmp_path / "counts.json"
    counts.main(counts.Options("resnet18", batch_size=2, json=path))
    assert "Programs are left out" in capsys.readouterr().out
    rows = json.loads(path.read_text())["layers"]
    assert sum(row["layers"] for row in rows) == 20
    second = next(row for row in rows if row["layer"] == "3×3, 64 → 64, 32×32")
    images, kernel = 2 * 1024 * 64, 9 * 64 * 64
    assert second["gradient"] == {"multiply_adds": 1024 * 2 * kernel, "bytes": 4 * (2 * images + kernel)}
    assert (second["cpu"]["form"], second["gpu"]["form"]) == ("offset", "split product")


def test_costs_are_fitted_to_times():
    """Times that are made of known ones give them back; a column that costs nothing stays at 0."""
    rng = np.random.default_rng(0)
    true = {"multiply_adds": 2e-14, "elements": 3e-12, "shifted": 0.0, "products": 4e-6}
    table = [{"median_s": 1.0}]  # A way that is no form.
    for _ in range(30):
        numbers = 10 ** rng.uniform(0, 3, 4) * (1e8, 1e6, 1e6, 1)
        row = dict(zip(true, numbers.tolist(), strict=True))
        table.append({"median_s": sum(true[name] * row[name] for name in true), "counts": row})
    seconds, off = calibration.calibrated(table)
    assert seconds == pytest.approx(true, rel=1e-6, abs=1e-18)
    assert off == pytest.approx(1)
    said = calibration.calibration([*table, {"examples": 100}])
    assert "Costs(element=150.0, shifted=0.0, product=2000000.0)" in said


def test_errors_and_ranks_of_rounded_scores():
    exact = np.arange(1.0, 101)
    found = exact * 1.01
    found[[0, 1]] = found[[1, 0]]  # The two easiest change places.
    row = rounding.compared(found, exact)
    assert row["median"] == pytest.approx(0.01)
    assert row["largest"] == row["largest_lowest"] == pytest.approx(1.02)
    assert row["ranks_lowest"] == pytest.approx(1 - 6 * 2 / (10 * 99))
    assert row["ranks"] == pytest.approx(1 - 6 * 2 / (100 * 9999))
    assert row["changed"] == 0
    assert rounding.compared(-exact, exact)["changed"] == 1


def test_products_take_rounded_factors_by_their_precision():
    """1 + 2**-9 needs nine bits: with eight it is 1."""
    x = jnp.full((2, 2), 1 + 2**-9, jnp.float32)

    def fn(x):
        product = functools.partial(jax.lax.dot, x, x)
        return product(), jax.jit(lambda: product(precision="highest"))(), x + x

    plain, highest, added = jax.jit(rounding.rounded(fn, 8, None))(x)
    np.testing.assert_array_equal(plain, jnp.full((2, 2), 2.0))
    np.testing.assert_array_equal(highest, x @ x)
    np.testing.assert_array_equal(added, 2 * x)
    np.testing.assert_array_equal(jax.jit(rounding.rounded(fn, None, 8))(x)[1], jnp.full((2, 2), 2.0))


def test_cost_draws_its_figure():
    options = cost.Options(batch_sizes=(2, 4), widths=(4,), blocks=(1,), base=(2, 4, 1))
    axes = cost.settings(options)
    wanted = dict.fromkeys(setting for along in axes.values() for setting in along)
    assert [tuple(setting) for setting in wanted] == [(2, 4, 1), (4, 4, 1)]
    ratios = {"ratio": 1.0, "ratio_low": 0.9, "ratio_high": 1.2}
    line = [{"variant": name, **ratios} for name in ("grand", "grand_vmap")]
    figure = cost.draw(dict.fromkeys(wanted, line), axes, "a note")
    labels = [panel.get_xlabel() for panel in figure.axes]
    assert labels == ["batch size", "width (filters of the first stage)", "depth (blocks per stage)"]


def test_functions_in_another_process():
    broken = functools.partial(int, "x")
    with remote.Remote(functools.partial(dict, clock=time.perf_counter, broken=broken)) as child:
        assert 0 <= child.seconds("clock") < 1
        assert isinstance(child.result("clock"), float)
        with pytest.raises(RuntimeError, match="invalid literal"):
            child.result("broken")
        assert child.result("clock") > 0


def test_a_module_that_only_the_other_process_imports(tmp_path, monkeypatch):
    (tmp_path / "only_there.py").write_text("def build(x):\n    return {'twice': lambda: 2 * x}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with remote.Remote(remote.built_by, "only_there", 4) as child:
        assert child.result("twice") == 8
    assert "only_there" not in sys.modules


def test_without_pytorch_its_comparison_is_skipped(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    torch_peers.main(torch_peers.Options())
    assert "skipped, PyTorch is not installed" in capsys.readouterr().out


def test_pytorchs_norms_are_ours():
    """In float64 both of PyTorch's ways are the same number, and ours but for float32 rounding."""
    torch = pytest.importorskip("torch")
    import jax_ways
    import torch_ways

    ours = jax_ways.build(6, 4)
    weights = {name: array.astype(np.float64) for name, array in ours["weights"]().items()}
    torch.set_default_dtype(torch.float64)
    try:
        images, labels = ours["images"]().astype(np.float64), ours["labels"]()
        theirs = torch_ways.build(weights, images, labels, 4, False)
        exact = theirs[torch_ways.VMAP]()
        np.testing.assert_allclose(theirs[torch_ways.GHOST](), exact, rtol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in (jax_ways.GRAND, jax_ways.VMAP):
        assert np.median(np.abs(ours[name]() / exact - 1)) < 1e-5


def test_a_training_in_pytorch_does_its_steps():
    torch = pytest.importorskip("torch")
    import torch_training

    trainings = {"float32": (4, False, False), "bfloat16": (4, True, False)}
    fns = torch_training.build(trainings, 2, 8, 3, "cpu")
    counted = []
    step = torch.optim.SGD.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", lambda *args: counted.append(step(*args)))
        for fn in fns.values():
            fn()
    assert len(counted) == 6


@pytest.mark.parametrize("way", ["direct", "gram", "offset", "grouped"])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (1, 2, 0)])
def test_each_way_of_a_convolution_in_pytorch(way, size, stride, padding):
    torch = pytest.importorskip("torch")
    import torch_ghost

    layer = torch.nn.Conv2d(3, 5, size, stride, padding, bias=False).double()
    images = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    upstream = torch.randn_like(layer(images))
    squares = torch_ghost.CONV_NORMS[way](layer, images, upstream).detach()
    for row in range(4):
        (gradient,) = torch.autograd.grad((layer(images)[row] * upstream[row]).sum(), layer.weight)
        torch.testing.assert_close(squares[row], gradient.square().sum())


def write_folder(root: Path) -> str:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for index in range(6):
            path = root / split / f"class{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)
    return f"folder:{root}"


@pytest.mark.parametrize("pixels", [False, True])
def test_a_packed_folder_is_the_same_dataset(tmp_path, pixels):
    name, path = write_folder(tmp_path / "images"), tmp_path / "packed.npz"
    splits = dj.load_dataset(name, quiet=True)
    pack.pack(name, path, pixels=pixels)
    for packed, split in zip(pack.load_packed(path), splits, strict=True):
        assert packed.fingerprint == split.fingerprint
        for field in (
            "name",
            "split",
            "class_names",
            "normalization",
            "id_source",
            "encoding",
            "num_classes",
        ):
            assert getattr(packed, field) == getattr(split, field)
    with np.load(path) as stored:
        assert ("train_pixels" in stored) == pixels


def test_a_packed_prepared_dataset_keeps_its_encoded_images(tmp_path):
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    labels = {split: {"label": rng.integers(0, 10, 20)} for split in images}
    write_prepared("cifar10", Contents(images, labels, {}), True, tmp_path, Progress("", quiet=True))
    pack.pack("cifar10", tmp_path / "packed.npz", data_dir=tmp_path)
    packed = pack.load_packed(tmp_path / "packed.npz")
    splits = dj.load_dataset("cifar10", data_dir=tmp_path, quiet=True)
    assert [split.fingerprint for split in packed] == [split.fingerprint for split in splits]
    with np.load(tmp_path / "packed.npz") as stored:
        assert len(stored["train_lengths"]) == 20


def test_embedded_digits_are_packed_as_pixels(tmp_path, capsys):
    pack.main(pack.Options("digits", tmp_path / "digits.npz"))
    assert "1078 and 719 examples" in capsys.readouterr().out
    splits = dj.load_dataset("digits")
    packed = pack.load_packed(tmp_path / "digits.npz")
    assert [split.fingerprint for split in packed] == [split.fingerprint for split in splits]


def test_other_pixels_than_were_packed_are_an_error(tmp_path):
    path = tmp_path / "digits.npz"
    pack.pack("digits", path)
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["test_pixels"] = arrays["test_pixels"][::-1]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="the test split does not have the fingerprint"):
        pack.load_packed(path)
