"""Runs one of the modules of library/ in this process; each command that it may run is written down."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import ansible.module_utils
import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

LIBRARY = Path(__file__).parents[2] / "library"
# As ansible.cfg says: what modules share is found beside Ansible's own.
ansible.module_utils.__path__.append(str(LIBRARY.parent / "module_utils"))


@dataclass(frozen=True)
class Command:
    """A command that the module is expected to run next, and its answer: text, or what makes it of argv."""

    argv: list[str]
    status: int = 0
    output: str | Callable[[list[str]], str] = ""
    errors: str = ""


class Ended(Exception):
    """The module ended with this result."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(str(result))
        self.result = result


def load(name: str) -> ModuleType:
    """Import `library/<name>.py`."""
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    parameters: dict[str, Any],
    commands: list[Command],
    *,
    check: bool = False,
) -> dict[str, Any]:
    """Run the module; each of `commands` must be run, in order, and nothing else. Returns the result.

    An expected word of "*" stands for any word.
    """
    left = list(commands)

    def run_command(self: AnsibleModule, argv: list[str], **options: Any) -> tuple[int, str, str]:
        assert left, f"not expected: {argv}"
        expected = left.pop(0)
        assert len(argv) == len(expected.argv), argv
        assert all(want in ("*", word) for want, word in zip(expected.argv, argv, strict=True)), argv
        output = expected.output if isinstance(expected.output, str) else expected.output(argv)
        return expected.status, output, expected.errors

    def exit_json(self: AnsibleModule, **result: Any) -> NoReturn:
        raise Ended({"failed": False, **result})

    def fail_json(self: AnsibleModule, msg: str, **result: Any) -> NoReturn:
        raise Ended({"failed": True, "msg": msg, **result})

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    monkeypatch.setattr(AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(AnsibleModule, "fail_json", fail_json)
    with _arguments({**parameters, "_ansible_check_mode": check}), pytest.raises(Ended) as ended:
        load(name).main()
    assert not left, f"not run: {left}"
    return ended.value.result


@contextmanager
def _arguments(parameters: dict[str, Any]) -> Iterator[None]:
    with patch_module_args(json.loads(json.dumps(parameters))):
        yield
