"""The checks of a role's tasks/validate.yml, all of them, for one host.

A play stops a host at its first failed task. So validate.yml does not run the roles' checks as tasks: it
reads them here, one after the other, and collects what each of them says. The files have only four kinds of
tasks (SORTS), with `when`, `vars` and `loop`; anything else is an error of this checkout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from .faults import Fault
from .kinds import network_problems, spec_problems, type_problems

ASSERT = "ansible.builtin.assert"
SORTS = (ASSERT, "sluice_inputs", "sluice_config", "sluice_entries")
ALLOWED = frozenset(
    {*SORTS, "name", "when", "vars", "loop", "loop_control", "delegate_to", "connection", "become"}
)
Check = Callable[[Mapping[str, Any]], Sequence[str]]
"""Takes a task's arguments, templated; returns what is wrong."""


class Role:
    """One role's checks. `load` reads a YAML file with its templates trusted; `checks` has the plugins'."""

    def __init__(self, folder: Path, load: Callable[[Path], Any], checks: Mapping[str, Check]) -> None:
        self.name = folder.name
        self._folder = folder
        self._checks = checks
        self._tasks = load(folder / "tasks" / "validate.yml")
        self._defaults = self._optional(load, "defaults") or {}
        self._vars = self._optional(load, "vars") or {}
        specs = load(folder / "meta" / "argument_specs.yml")
        self.options: dict[str, Any] = specs["argument_specs"]["main"].get("options", {})
        for task in self._tasks:
            if set(task) - ALLOWED or len(set(task) & set(SORTS)) != 1:
                raise ValueError(
                    f"{folder.name}/tasks/validate.yml: {task.get('name')}: unknown kind of task"
                )

    def _optional(self, load: Callable[[Path], Any], part: str) -> Any:
        path = self._folder / part / "main.yml"
        return load(path) if path.is_file() else None

    def variables(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the role's tasks see of a host with these variables."""
        place = str(self._folder)
        own = {"role_path": place, "role_name": self.name, "ansible_search_path": [place]}
        return {**self._defaults, **given, **self._vars, **own}

    def inputs(self, templar: Any) -> tuple[dict[str, Any], list[str]]:
        """Return the role's inputs as its tasks see them, and why some of them cannot be read."""
        values: dict[str, Any] = {}
        problems = []
        for name in self.options:
            if name in templar.available_variables:
                try:
                    values[name] = templar.template(templar.available_variables[name])
                except AnsibleError as error:
                    problems.append(f"{name} cannot be read: {_short(error)}")
        return values, problems

    def faults(self, host: str, templar: Any, good: dict[str, Any]) -> Iterator[Fault]:
        """Yield what the role refuses of a host; `templar` has `variables`.

        `good` gets the inputs that have their types.
        """
        values, unread = self.inputs(templar)
        wrong = [*unread, *type_problems(self.options, values), *spec_problems(self.options, values)]
        for task in self._tasks:
            wrong += [
                problem
                for name in (task.get("sluice_inputs") or {}).get("networks", [])
                if name in values and isinstance(values[name], list)
                for problem in network_problems(name, values[name])
            ]
        for problem in wrong:
            yield Fault(f"{problem}. Correct it in the inventory", hosts=(host,))
        # A check that uses a value of the wrong type says nothing that helps.
        names = {problem.split(" ")[0].rstrip(":").split(".")[0].split("[")[0] for problem in wrong}
        good.update({name: value for name, value in values.items() if name not in names})
        for task in self._tasks:
            if "sluice_inputs" in task or any(name in str(task) for name in names):
                continue
            if names and ASSERT not in task:
                continue
            for says in self._said(task, templar):
                yield Fault(says, hosts=(host,))

    def _said(self, task: Mapping[str, Any], templar: Any) -> Iterator[str]:
        variables = {**templar.available_variables, **task.get("vars", {})}
        inner = templar.copy_with_new_env(available_variables=variables)
        try:
            if not inner.evaluate_conditional(task.get("when", True)):
                return
            items = inner.template(task["loop"]) if "loop" in task else [None]
            for item in items:
                one = inner.copy_with_new_env(available_variables={**variables, "item": item})
                yield from self._item(task, one)
        except AnsibleError as error:
            yield f"{self.name}: {task['name']}: {_short(error)}. Correct it in the inventory"

    def _item(self, task: Mapping[str, Any], templar: Any) -> Iterator[str]:
        if ASSERT not in task:
            (sort,) = set(task) & set(SORTS)
            yield from self._checks[sort](templar.template(task[sort]))
            return
        given = task[ASSERT]
        conditions = [given["that"]] if isinstance(given["that"], str) else given["that"]
        if not all(templar.evaluate_conditional(one) for one in conditions):
            yield str(templar.template(given["fail_msg"]))


def _short(error: AnsibleError) -> str:
    """Return an error's own words, without the excerpt of a file, which may hold a secret."""
    return " ".join(str(error.message).split())
