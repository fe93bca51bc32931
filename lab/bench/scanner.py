"""The cost of scanning a body, compared with Python's parser and with the scanner of an earlier commit.

`python -m lab.bench.scanner [COMMIT]` runs them in turn, in one process. It prints the best of several rounds
in microseconds of CPU time, and the ratio to each. Compare only ratios of one run.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = "files/sluice/src"
ROUNDS = 12
ROUND_SECONDS = 0.02


def tool(number: int) -> dict[str, Any]:
    """Return a tool as agents describe theirs, about a kilobyte."""
    rule = {"field": {"type": "string"}, "op": {"enum": ["eq", "lt"]}, "value": {"type": "string"}}
    properties = {
        "place": {"type": "string", "description": "The city and country for which the answer is wanted"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "The unit"},
        "days": {"type": "integer", "description": "How many days ahead", "minimum": 1},
        "rules": {
            "type": "array",
            "items": {"type": "object", "properties": rule, "required": ["field", "op", "value"]},
        },
        "verbose": {"type": "boolean", "description": "Whether to tell all details that are known"},
    }
    schema = {"type": "object", "properties": properties, "required": ["place"]}
    function = {"name": f"get_{number}", "description": "Gets a thing. " * 16, "parameters": schema}
    return {"type": "function", "function": function}


def bodies() -> dict[str, tuple[str, bytes]]:
    """Return bodies by name, each with the capability of its path."""
    ask = [{"role": "user", "content": "Why is the sky blue?"}]
    turns = [
        {"role": role, "content": f"{role} {n} says that the sky is blue. " * 4}
        for n in range(20)
        for role in ("user", "assistant")
    ]
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "one question": ("chat", {"messages": ask, "stream": True}),
        "20 turns": ("chat", {"messages": turns, "stream": True, "max_tokens": 512}),
        "40 tools": ("chat", {"messages": ask, "tools": [tool(n) for n in range(40)]}),
        "500 inputs": (
            "embeddings",
            {"input": [f"a text of usual length, number {n} " * 3 for n in range(500)]},
        ),
        "20,000 short messages": ("chat", {"messages": ask * 20_000}),
        "100,000 tokens": ("completions", {"prompt": list(range(1000, 101_000))}),
    }
    return {name: (path, json.dumps({"model": "m", **body}).encode()) for name, (path, body) in found.items()}


def scanner(source: Path) -> Callable[[str], Any]:
    """Return the scanner class of the code in this folder, even if other code of it was loaded before."""
    for name in [name for name in sys.modules if name.split(".")[0] == "sluice"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, str(source))
    try:
        place = next(source.glob("sluice/**/scan.py")).relative_to(source).with_suffix("")
        made = importlib.import_module(".".join(place.parts)).BodyScanner
    finally:
        sys.path.pop(0)
    return made if inspect.signature(made).parameters else lambda _: made()


def earlier(commit: str, folder: Path) -> Path:
    """Write the code of a commit into a folder; return the folder of its modules."""
    packed = subprocess.run(["git", "archive", commit, SOURCE], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder / SOURCE


def scan(make: Callable[[str], Any], path: str, raw: bytes) -> None:
    one = make(path)
    one.feed(raw)
    one.finish()


def best(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Run these in turn; return the best time of each, in microseconds."""
    found = dict.fromkeys(contestants, float("inf"))
    times: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            count = times.get(name, 1)
            began = time.process_time()
            for _ in range(count):
                run()
            took = (time.process_time() - began) / count
            found[name] = min(found[name], took * 1e6)
            times[name] = max(1, int(ROUND_SECONDS / max(took, 1e-7)))
    return found


def main(commit: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        makers = {"this": scanner(ROOT / SOURCE)}
        if commit:
            makers[commit[:9]] = scanner(earlier(commit, Path(folder)))
        for name, (path, raw) in bodies().items():
            runs: dict[str, Callable[[], object]] = {"json": partial(json.loads, raw)}
            for who, make in makers.items():
                runs[who] = partial(scan, make, path, raw)
            took = best(runs)
            told = ", ".join(f"{who} {took[who]:.1f} ({took['this'] / took[who]:.2f})" for who in runs)
            print(f"{name}, {len(raw)} bytes: {told}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
