"""Of which type a value is, compared with a role's argument_specs.yml. Pure.

Ansible's own check converts a copy of each value, but the role gets the unconverted one: a text passes as a
list, and the role then uses its letters as the elements. This accepts only what needs no conversion. Numbers
may be text of digits, as `-e` on the command line gives them, because roles convert numbers themselves.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .units import number_meant

ANY = "any"
# From this similarity on, a name counts as a misspelt input.
NEAR = 0.85
_WHOLE = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def type_problems(options: Mapping[str, Any], values: Mapping[str, object], where: str = "") -> Iterator[str]:
    """Yield what is wrong with the given values, by the options of argument_specs.yml."""
    for name, option in options.items():
        if name in values:
            yield from _problems(f"{where}{name}", option, values[name])


def _problems(name: str, option: Mapping[str, Any], value: object) -> Iterator[str]:
    kind = str(option.get("type", "str"))
    if value is None and kind != "raw":
        yield f"{name} is empty: give it a value, or remove the line for its default"
        return
    problem = _KINDS[kind](value)
    if problem:
        if kind in ("int", "float") and isinstance(value, str):
            meant = number_meant(name, value)
            problem += f". It takes a number without a unit: write {meant}" if meant else ""
        yield f"{name} {problem}"
        return
    if kind == "list":
        yield from _elements(name, option, value)
    elif kind == "dict" and "options" in option and isinstance(value, Mapping):
        yield from type_problems(option["options"], value, f"{name}.")


def _elements(name: str, option: Mapping[str, Any], value: object) -> Iterator[str]:
    element = {"type": option.get("elements", "raw")}
    if "options" in option:
        element["options"] = option["options"]
    for index, item in enumerate(value if isinstance(value, Sequence) else ()):
        yield from _problems(f"{name}[{index}]", element, item)


def _list(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ""
    return f"must be a list, as in [one, two], not {_named(value)}"


def _dict(value: object) -> str:
    return (
        "" if isinstance(value, Mapping) else f"must be a dictionary of names and values, not {_named(value)}"
    )


def _bool(value: object) -> str:
    remedy = "true or false without quotes; after -e as JSON, as in -e '{\"name\": true}'"
    return "" if isinstance(value, bool) else f"must be {remedy}, not {_named(value)}"


def _int(value: object) -> str:
    whole = isinstance(value, int) or (isinstance(value, str) and _WHOLE.fullmatch(value))
    return "" if whole and not isinstance(value, bool) else f"must be a whole number, not {_named(value)}"


def _float(value: object) -> str:
    number = isinstance(value, (int, float)) or (isinstance(value, str) and _NUMBER.fullmatch(value))
    return "" if number and not isinstance(value, bool) else f"must be a number, not {_named(value)}"


def _text(value: object) -> str:
    return "" if isinstance(value, str) else f"must be text, not {_named(value)}: put it in quotes"


def _raw(value: object) -> str:
    return ""


_KINDS = {
    "list": _list,
    "dict": _dict,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _text,
    "path": _text,
    "raw": _raw,
}


def _named(value: object) -> str:
    """Return the kind of a value for a message, never the value: it may be a secret without quotes."""
    if isinstance(value, bool):
        return f"the yes-or-no value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, Sequence) else "a dictionary"


def misspelt(role: str, options: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """Yield a message for each name that looks like a misspelt input of the role, which would do nothing."""
    for name in sorted(names):
        if name.startswith(f"{role}_") and name not in options:
            near = difflib.get_close_matches(name, options, 1, NEAR)
            if near:
                yield f"{name} is not an input of the role {role}: write {near[0]}, or use another name"


def network_problems(name: str, value: object) -> Iterator[str]:
    """Yield what is wrong with a list of addresses and networks; only the word `any` means everywhere."""
    words = [word for word in value if isinstance(word, str)] if isinstance(value, Sequence) else []
    if not words:
        yield (
            f"{name} must be set: the addresses or networks that sessions may come from, as the login node "
            f"sees them, such as [192.0.2.10], or [{ANY}] for all"
        )
    for word in words:
        if word == ANY and len(words) == 1:
            continue
        problem = _network_problem(word)
        if problem:
            yield f"{name}: {word} {problem}"


def _network_problem(word: str) -> str:
    if word == ANY:
        return "must be the only word in the list"
    try:
        network = ipaddress.ip_network(word)
    except ValueError as error:
        why = "; its last bits must be 0" if "host bits" in str(error) else ""
        return f"is not an address or network{why}. Names do not work: sshd compares addresses"
    return f"is every address: use [{ANY}] if that is meant" if network.prefixlen == 0 else ""


def spec_problems(options: Mapping[str, Any], values: Mapping[str, object], where: str = "") -> Iterator[str]:
    """Yield required inputs that are missing, values that are no choice, and unknown keys of dictionaries.

    Values of another type are left to `type_problems`.
    """
    for name, option in options.items():
        value = values.get(name)
        if name not in values:
            if option.get("required"):
                yield f"{where}{name} is required: {' '.join(str(option.get('description', '')).split())}"
            continue
        choices = option.get("choices", ())
        if choices and isinstance(value, str) and value not in choices:
            yield f"{where}{name} must be one of {', '.join(choices)}"
        inner = option.get("options")
        if not inner:
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, item in items:
            if isinstance(item, Mapping):
                place = f"{where}{name}" + ("" if index is None else f"[{index}]")
                yield from _unknown_keys(place, inner, item)
                yield from spec_problems(inner, item, f"{place}.")


def _unknown_keys(place: str, options: Mapping[str, Any], value: Mapping[Any, object]) -> Iterator[str]:
    for key in value:
        if key not in options:
            near = difflib.get_close_matches(str(key), options, 1)
            known = f"write {near[0]}" if near else f"it has {', '.join(options)}"
            yield f"{place}.{key} is a key that no role knows: {known}"
