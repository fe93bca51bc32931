"""The rooms of the code: imports point down, what decides is pure, nothing is too long to be read at once.

lab/rooms.py has the order of the rooms; docs/rooms.md shows it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import rooms
from tests.policy.tree import ROOT

CODE = rooms.read()
# Where people read and change code; generated or vendored code is not among it.
FOLDERS = ("files/sluice", "lab", "demo", "library", "action_plugins", "module_utils", "roles")
MOST_LINES = 500
MOST_LINES_OF_A_FUNCTION = 60
# Of all that a relay process loads, today. It may shrink.
MOST_LINES_OF_THE_RELAY = 7_610

# Longer than MOST_LINES today, by path. No number may grow, and nothing may be added.
LONG_FILES: dict[str, int] = {
    "lab/bench/generator.py": 600,
    "lab/bench/stack.py": 612,
}

# Longer than MOST_LINES_OF_A_FUNCTION today, as path::function. No number may grow, and nothing may be added.
LONG_FUNCTIONS: dict[str, int] = {}

# `self.a.b.c()`: of what an object has, another's member may be asked. One more, and it reaches through two.
MOST_NAMES_OF_A_CALL = 4
# Public after all: namedtuples' own, argparse's type that has no other name, and prometheus-client's.
NOT_PRIVATE = frozenset(("_replace", "_fields", "_SubParsersAction", "_labelnames"))

# What must be pure, and what in it touches the world after all.
PURE = (
    "sluice.wire",
    "sluice.gate",
    "sluice.contracts",
    "sluice.bodies",
    "sluice.errors",
    "sluice.sources",
    "sluice.front.http",
    "sluice.front.screening",
    "sluice.proxy.accounts.guesses",
    "sluice.proxy.accounts.limits",
    "sluice.proxy.accounts.principals",
    "sluice.proxy.queue.admission",
    "sluice.scheduler.instances",
    "sluice.scheduler.policy",
    "sluice.scheduler.slurm.nodes",
    "sluice.scheduler.slurm.sbatch_options",
    "sluice.scheduler.slurm.submission",
)
IMPURE_THERE = ("sluice.contracts.files",)
WORLD = frozenset(
    (
        "asyncio",
        "concurrent",
        "datetime",
        "fcntl",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
    )
)


def is_pure(module: str) -> bool:
    """Tell whether a module is to be pure."""
    return module not in IMPURE_THERE and any(
        module == name or module.startswith(f"{name}.") for name in PURE
    )


def python_files() -> Iterator[tuple[str, Path]]:
    """Yield every Python file of FOLDERS with its path from the top."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"__pycache__", "node_modules", "build", "dist"} & set(path.parts):
                yield str(path.relative_to(ROOT)), path


def long_files() -> dict[str, int]:
    """Return the files that are too long, with their lines."""
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in python_files()}
    return {name: size for name, size in sizes.items() if size > MOST_LINES}


def long_functions() -> dict[str, int]:
    """Return the functions that are too long, as path::function, with their lines."""
    found = {}
    for name, path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > MOST_LINES_OF_A_FUNCTION:
                    found[f"{name}::{node.name}"] = size
    return found


def reaches(tree: ast.Module) -> list[str]:
    """Return what a module asks of an object through two others, or of another object's private members."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = ast.unparse(node.func).split(".")
            if names[0] == "self" and len(names) > MOST_NAMES_OF_A_CALL and all(map(str.isidentifier, names)):
                found.append(f"line {node.lineno}: {'.'.join(names)}")
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in NOT_PRIVATE:
            whose = ast.unparse(node.value)
            if not node.attr.startswith("__") and whose not in ("self", "cls", "super()"):
                found.append(f"line {node.lineno}: {whose}.{node.attr}")
    return found


def grown(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """Return what is too long and not allowed, or longer than allowed, or allowed for nothing."""
    too_long = [f"{name}: {size} lines" for name, size in found.items() if size > allowed.get(name, 0)]
    return [*too_long, *(f"{name}: strike it from the list" for name in allowed if name not in found)]


def test_imports_point_down() -> None:
    """Whoever reads a room needs to know only what lies below it, and can change it without looking up.

    A new room, or a file that stands in none, gets its line in lab/rooms.py.
    """
    assert rooms.rising(CODE) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """Files in a circle are one file in several pieces: none is understood, tested or moved alone."""
    assert rooms.circles(CODE.imports) == []


def test_no_part_imports_another() -> None:
    """Each part runs as an account of its own, some on other hosts: what two of them need is shared, below.

    The cluster's parts must not even carry the gateway's code.
    """
    across = [
        f"{module} -> {target}"
        for module, targets in CODE.imports.items()
        for target in targets
        if rooms.part_of(module) and rooms.part_of(target) not in ("", rooms.part_of(module))
    ]
    assert across == []


@pytest.mark.parametrize("module", [name for name in CODE.files if is_pure(name)])
def test_what_decides_knows_no_socket_clock_process_or_file(module: str) -> None:
    """Decisions are pure, effects thin: what tests feed byte by byte, or over years, is the real thing.

    A pure module imports no module of the project that is not pure, for that would be a way round.
    """
    used = set()
    for node in ast.walk(ast.parse(CODE.files[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add((node.module or "").split(".")[0])
    assert used & WORLD == set()
    assert [target for target in CODE.imports[module] if not is_pure(target)] == []


@pytest.mark.parametrize("room", sorted({rooms.room_of(name) for name in CODE.files} - {""}))
def test_each_room_says_what_lives_there_and_what_may_import_it(room: str) -> None:
    """Who comes with a new file, or looks for an old one, reads these lines instead of all files.

    A file that stands in no room says at least what it is.
    """
    path = CODE.files[room]
    says = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert says
    if path.name == "__init__.py":
        assert len(says.splitlines()) >= 3, f"{path}: what lives there, an empty line, what may import it"
        assert "import" in says, f"{path} does not say what may import it"


def test_the_page_is_current() -> None:
    """A picture that is drawn by hand is old after a week; this one is drawn by `python -m lab.rooms`."""
    assert rooms.PAGE.read_text(encoding="utf-8") == rooms.page(CODE), "run: python -m lab.rooms"


def test_files_are_short_enough_to_be_read_at_once() -> None:
    """A file of one thing has seldom more than 500 lines; a longer one holds several, and hides them."""
    assert grown(long_files(), LONG_FILES) == []


def test_functions_are_short_enough_to_be_read_at_once() -> None:
    """What does not fit on a screen is read in pieces; where it goes wrong is found in the piece not read."""
    assert grown(long_functions(), LONG_FUNCTIONS) == []


@pytest.mark.parametrize("module", CODE.files)
def test_nobody_reaches_through_two_objects(module: str) -> None:
    """Who asks a neighbour's neighbour breaks when either changes; the neighbour should say it.

    The scanner starts a second scanner of its own kind: that one is no stranger.
    """
    tree = ast.parse(CODE.files[module].read_text(encoding="utf-8"))
    assert [one for one in reaches(tree) if not one.endswith(" inner._costs")] == []


def test_a_reach_is_noticed() -> None:
    """A check that cannot fail proves nothing."""
    text = "self.a.b.c.d()\nself.a.b.c()\nother._x\nself._x\nhead._replace(a=1)\n"
    assert reaches(ast.parse(text)) == ["line 1: self.a.b.c.d", "line 3: other._x"]


def test_a_relay_process_loads_little_and_only_what_the_page_lists() -> None:
    """The gateway's key reaches this code alone on the cluster: a security officer must be able to read it.

    docs/rooms.md lists it, and the test of that page holds the list. Here the size is held: who needs more
    takes something out first.
    """
    names = rooms.loaded(CODE, rooms.RELAY)
    allowed = {
        "relay",
        "gate",
        "wire",
        "bodies",
        "contracts",
        "endpoint",
        "config",
        "errors",
        "logs",
        "version",
    }
    assert {name.split(".")[1] for name in names if "." in name} <= allowed
    size = sum(len(CODE.files[name].read_text(encoding="utf-8").splitlines()) for name in names)
    assert size <= MOST_LINES_OF_THE_RELAY


def test_an_import_that_points_up_is_noticed() -> None:
    """A check that cannot fail proves nothing."""
    order = ("top", "bottom")
    up = rooms.Code({}, {"bottom.a": frozenset(("top.b",)), "top.b": frozenset(("bottom.a",))})
    assert rooms.rising(up, order) == ["bottom.a -> top.b"]
    lost = rooms.Code({}, {"elsewhere": frozenset()})
    assert rooms.rising(lost, order) == ["elsewhere stands on no line of the order"]


def test_a_circle_is_noticed_however_long() -> None:
    assert rooms.circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert rooms.circles({"a": ["b"], "b": ["c"], "c": []}) == []


def test_what_grows_and_what_need_not_stand_on_a_list_is_noticed() -> None:
    assert grown({"a": 510}, {"a": 505}) == ["a: 510 lines"]
    assert grown({"b": 501}, {}) == ["b: 501 lines"]
    assert grown({}, {"c": 600}) == ["c: strike it from the list"]
    assert grown({"a": 503}, {"a": 505}) == []


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    assert rooms.needed({"a": ["b", "c"], "b": ["c"], "c": []}) == [("a", "b"), ("b", "c")]
