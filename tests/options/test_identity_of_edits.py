"""Edits that change what code does, in all the places where code can stand: `identify` notices each."""

import os
import subprocess
import sys

import pytest

# Name: text, and what is edited in it from which to which; without these the helper modules are edited.
CASES = {
    "wraps_decorator_body": (
        """
import functools
def scaled(fn):
    @functools.wraps(fn)
    def wrapper(*a):
        return K * fn(*a)
    return wrapper
@scaled
def thing(x): return x
""",
        "K *",
        "2 *",
        "3 *",
    ),
    "wraps_decorator_nowraps": (
        """
def scaled(fn):
    def wrapper(*a):
        return K * fn(*a)
    return wrapper
@scaled
def thing(x): return x
""",
        "K *",
        "2 *",
        "3 *",
    ),
    "wraps_of_package": (
        """
import functools, diet_jax as dj
@functools.wraps(dj.el2n)
def thing(*a): return K * dj.el2n(*a)
""",
        "K *",
        "2 *",
        "3 *",
    ),
    "class_closure": (
        """
import flax.linen as nn
def make(width):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool): return nn.Dense(width)(x)
    return Net()
thing = make(KK)
""",
        "KK",
        "64",
        "128",
    ),
    "class_attr_helper": (
        """
def act(x): return x * KK
class Net:
    act = staticmethod(act)
    def predict(self, x): return self.act(x)
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "class_attr_class": (
        """
class Block:
    def __call__(self, x): return x * KK
class Net:
    block = Block
    def predict(self, x): return self.block()(x)
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "class_attr_const": (
        """
W = KK
class Net:
    width = W
    def predict(self, x): return x * self.width
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "method_default_const": (
        """
W = KK
class Net:
    def predict(self, x, w=W): return x * w
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "class_two_of_a_name": (
        """
if KK:
    class Net:
        def predict(self, x): return x * 2
else:
    class Net:
        def predict(self, x): return x * 3
thing = Net()
""",
        "KK",
        "True",
        "False",
    ),
    "method_decorator": (
        """
import functools
def deco(fn):
    @functools.wraps(fn)
    def w(self, x): return KK * fn(self, x)
    return w
class Net:
    @deco
    def predict(self, x): return x
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "parent_class": (
        """
class Base:
    def predict(self, x): return x * KK
class Net(Base): pass
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "lazy_import": (
        """
def thing(x):
    from helper_lazy import f
    return f(x)
""",
        None,
        None,
        None,
    ),
    "submodule": (
        """
import ownpkg
import ownpkg.sub
def thing(x): return ownpkg.sub.f(x)
""",
        None,
        None,
        None,
    ),
    "submodule_as": (
        """
import ownpkg.sub as sub
def thing(x): return sub.f(x)
""",
        None,
        None,
        None,
    ),
    "helper_of_helper": (
        """
import ownpkg.sub as sub
def thing(x): return sub.g(x)
""",
        None,
        None,
        None,
    ),
    "custom_vjp_bwd": (
        """
import jax
@jax.custom_vjp
def thing(x): return x
def fwd(x): return x, None
def bwd(_, g): return (g * KK,)
thing.defvjp(fwd, bwd)
""",
        "KK",
        "2",
        "3",
    ),
    "custom_vjp_inside": (
        """
import jax
@jax.custom_vjp
def act(x): return x
def fwd(x): return x, None
def bwd(_, g): return (g * KK,)
act.defvjp(fwd, bwd)
def thing(x): return act(x)
""",
        "KK",
        "2",
        "3",
    ),
    "range_global": (
        """
LAYERS = range(KK)
def thing(x):
    for _ in LAYERS: x = x * 2
    return x
""",
        "KK",
        "2",
        "3",
    ),
    "slice_global": (
        """
CUT = slice(0, KK)
def thing(x): return x[CUT]
""",
        "KK",
        "2",
        "3",
    ),
    "fraction_global": (
        """
from fractions import Fraction
CUT = Fraction(KK, 7)
def thing(x): return x*float(CUT)
""",
        "KK",
        "2",
        "3",
    ),
    "slots_object": (
        """
class T:
    __slots__ = ("t",)
    def __init__(self, t): self.t = t
C = T(KK)
def thing(x): return x * C.t
""",
        "KK",
        "2",
        "3",
    ),
    "enum_value": (
        """
import enum
class A(enum.Enum):
    x = KK
def thing(y, a=A.x): return y * a.value
""",
        "KK",
        "2",
        "3",
    ),
    "itemgetter": (
        """
import operator
pick = operator.itemgetter(KK)
def thing(x): return pick(x)
""",
        "KK",
        "0",
        "1",
    ),
    "lambda_two_lines": (
        """
fs = [
    lambda x:
        x OP 1,
    None,
]
thing = fs[0]
""",
        "OP",
        "+",
        "-",
    ),
    "lambda_one_line": (
        """
a, b = lambda x: x + 1, lambda x: x - 1
thing = KK
""",
        "KK",
        "a",
        "b",
    ),
    "lambda_dict": (
        """
FS = {
    "a": lambda x: x OP 1,
    "b": lambda x: x * 2,
}
def thing(x): return FS["a"](x)
""",
        "OP",
        "+",
        "-",
    ),
    "jit": (
        """
import jax
@jax.jit
def thing(x): return x * KK
""",
        "KK",
        "2",
        "3",
    ),
    "partial_partial": (
        """
import functools
def f(a, b, x): return a*b*x
thing = functools.partial(functools.partial(f, 2), KK)
""",
        "KK",
        "2",
        "3",
    ),
    "singledispatch": (
        """
import functools
@functools.singledispatch
def thing(x): return x
@thing.register
def _(x: int): return x * KK
""",
        "KK",
        "2",
        "3",
    ),
    "exec_empty_ns": (
        """
ns = {}
exec("def thing(x): return x * KK", ns)
thing = ns["thing"]
""",
        "KK",
        "2",
        "3",
    ),
    "exec_inner": (
        """
ns = {"__name__": "mine"}
exec("def thing(m):\\n    def fn(x): return x OP 1\\n    return fn", ns)
thing = ns["thing"]
""",
        "OP",
        "+",
        "-",
    ),
    "exec_class_attr": (
        """
ns = {"__name__": "mine"}
exec("class Net:\\n    w = KK\\n    def predict(self, x): return x * self.w\\nthing = Net()", ns)
thing = ns["thing"]
""",
        "KK",
        "2",
        "3",
    ),
    "type_dynamic": (
        """
def predict(self, x): return x * self.w
thing = type("Net", (), {"w": KK, "predict": predict})()
""",
        "KK",
        "2",
        "3",
    ),
    "array_closure": (
        """
import numpy as np
def make(a): return lambda x: x @ a
thing = make(np.full(3, KK))
""",
        "KK",
        "2",
        "3",
    ),
    "dict_fn_keys_code": (
        """
def f(x): return x * KK
T = {f: 1}
def thing(x): return [k(x) for k in T]
""",
        "KK",
        "2",
        "3",
    ),
    "bound_builtin": (
        """
table = {0: KK}
thing = table.get
""",
        "KK",
        "2",
        "3",
    ),
    "cached_property": (
        """
import functools
def h(): return KK
class Net:
    @functools.cached_property
    def w(self): return h()
    def predict(self, x): return x * self.w
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "dataclass_default_factory": (
        """
import dataclasses
@dataclasses.dataclass
class Net:
    w: list = dataclasses.field(default_factory=lambda: [KK])
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "post_init_attr": (
        """
import dataclasses
def calc(): return KK
@dataclasses.dataclass
class Net:
    w: int = 1
    def __post_init__(self): self.k = calc()
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "late_attr_dataclass": (
        """
import dataclasses
@dataclasses.dataclass
class Net:
    w: int = 1
thing = Net(); thing.k = KK
""",
        "KK",
        "2",
        "3",
    ),
    "monkeypatched_method": (
        """
class Net:
    def predict(self, x): return x
def p(self, x): return x * KK
Net.predict = p
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "global_stmt_in_class_decorator": (
        """
def deco(cls):
    cls.k = KK
    return cls
@deco
class Net:
    def predict(self, x): return x * self.k
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "class_constant_obj": (
        """
class Net:
    class Inner:
        w = KK
    def predict(self, x): return x * self.Inner.w
thing = Net()
""",
        "KK",
        "2",
        "3",
    ),
    "module_attr_constant": (
        """
import ownpkg.sub as sub
def thing(x): return x * sub.K
""",
        None,
        None,
        None,
    ),
    "from_import_star_pkg": (
        """
from ownpkg.sub import f as thing
""",
        None,
        None,
        None,
    ),
    "module_nested_attr_const": (
        """
import ownpkg
import ownpkg.sub
def thing(x): return x * ownpkg.sub.K
""",
        None,
        None,
        None,
    ),
    "stdlib_named_module": (
        """
import sys; sys.path.insert(0, ".")
import importlib
import statistics_own as s
def thing(x): return s.f(x)
""",
        None,
        None,
        None,
    ),
}

HELPER = "def f(x): return x * KK\ndef g(x): return f(x)\nK = KK\n"
DRIVER = """
import importlib, os, sys
from diet_jax.options.identity import identify
names, root = sys.argv[2:], os.getcwd()
for name in names:
    os.chdir(os.path.join(root, name))
    sys.path.insert(0, os.getcwd())
    for module in ("mine", "helper_lazy", "ownpkg", "ownpkg.sub", "statistics_own"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    import mine
    print(name, identify(mine.thing).replace(" ", "_"))
    sys.path.pop(0)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The digests of all cases in three processes: as they are, edited, and as they are again."""
    results = []
    for version, seed in (("before", 1), ("after", 2), ("before", 3)):
        root = tmp_path_factory.mktemp(f"{version}{seed}")
        number = {"before": "2", "after": "3"}[version]
        for name, (text, what, before, after) in CASES.items():
            folder = root / name
            (folder / "ownpkg").mkdir(parents=True)
            edited = text if what is None else text.replace(what, {"before": before, "after": after}[version])
            (folder / "mine.py").write_text(edited)
            for file in ("helper_lazy.py", "ownpkg/sub.py", "statistics_own.py"):
                (folder / file).write_text(HELPER.replace("KK", number))
            (folder / "ownpkg" / "__init__.py").touch()
        command = [sys.executable, "-c", DRIVER, "names", *CASES]
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(command, cwd=root, env=env, check=True, capture_output=True, text=True)
        results.append(dict(line.split(" ") for line in done.stdout.splitlines()))
    return results


@pytest.mark.parametrize("name", CASES)
def test_an_edit_is_noticed_and_nothing_else(found, name):
    before, after, again = (result[name] for result in found)
    assert before == again
    assert before != after
