"""Models, limits and groups that name each other, and what models ask for compared with the bounds. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .units import number_meant

Inputs = Mapping[str, Any]
NUMBERS = ("context_length", "idle_stop", "start_timeout", "stall_timeout", "concurrency")
SLURM_NUMBERS = ("time", "time_min", "memory_mb", "warn")
# A job with less cannot even start Python with an engine: it is a number of GiB.
LEAST_MEMORY_MB = 256
# What the job's script or the front sets itself: another value is an engine that nobody reaches.
OWN_ARGUMENTS = (
    *(
        "--host",
        "--port",
        "--uds",
        "--api-key",
        "--api-key-file",
        "--served-model-name",
        "--root-path",
        "--alias",
    ),
    *("--ssl-keyfile", "--ssl-certfile", "--ssl-key-file", "--ssl-cert-file", "--model"),
)
NEAR = 0.8


def units(given: Inputs) -> Iterator[str]:
    """Yield numbers of entries that are written with a unit, with the number to write."""
    for where, entry in _entries(given):
        slurm, burst = _mapping(entry.get("slurm")), _mapping(entry.get("burst"))
        fields = {name: entry.get(name) for name in NUMBERS}
        fields |= {f"slurm.{name}": slurm.get(name) for name in SLURM_NUMBERS}
        fields |= {f"burst.{name}": burst.get(name) for name in SLURM_NUMBERS[:2]}
        for name, value in fields.items():
            meant = number_meant(name, value) if isinstance(value, str) else ""
            if meant:
                yield f"{where}: {name} takes a number without a unit. Write {name.split('.')[-1]}: {meant}"
        memory = slurm.get("memory_mb")
        if isinstance(memory, int) and 0 < memory < LEAST_MEMORY_MB:
            yield f"{where}: slurm.memory_mb counts MiB. For {memory} GiB write memory_mb: {memory * 1024}"


def arguments(given: Inputs) -> Iterator[str]:
    """Yield arguments of engines that Sluice sets itself."""
    for where, entry in _entries(given):
        args = entry.get("engine_args")
        for word in args if isinstance(args, (list, tuple)) else ():
            name = str(word).split("=")[0]
            if name in OWN_ARGUMENTS:
                yield f"{where}: engine_args must not have {name}, which Sluice sets itself. Remove it"


def names(given: Inputs) -> Iterator[str]:
    """Yield names that differ by case only, of models, groups and clusters."""
    kinds = {
        "model_entries": [str(entry.get("name")) for _, entry in _entries(given)],
        "proxy_clusters": [str(entry.get("name")) for entry in given.get("proxy_clusters", ())],
        "web_projects": [str(name) for name in given.get("web_projects", {})],
        "web_user_groups, web_admin_groups, web_projects": _groups(given),
    }
    for kind, found in kinds.items():
        seen: dict[str, str] = {}
        for name in found:
            first = seen.setdefault(name.casefold(), name)
            if first != name:
                yield (
                    f"{kind}: {first} and {name} differ by case only. Write one of them, or choose another "
                    "name"
                )


def references(given: Inputs) -> Iterator[str]:
    """Yield models that are named and no entry has, and groups that are nearly one named elsewhere.

    The identity provider may send groups that no setting names, so only a near one is refused.
    """
    models = [str(entry.get("name")) for _, entry in _entries(given)]
    limits = [limit for limit in given.get("web_limits", ()) if isinstance(limit, Mapping)]
    personas = [persona for persona in given.get("web_personas", ()) if isinstance(persona, Mapping)]
    for variable, entries in (("web_limits", limits), ("web_personas", personas)):
        for index, entry in enumerate(entries):
            model = entry.get("model")
            if model and model not in models and "model_entries" in given:
                yield (
                    f"{variable}[{index}].model: no entry of model_entries is named {model}. "
                    f"{_offer(model, models)}"
                )
    known = set(_groups(given)) | {"all"}
    for index, limit in enumerate(limits):
        kind, _, group = str(limit.get("scope", "")).partition(":")
        if kind in ("group", "member") and group != "*":
            yield from _nearly(f"web_limits[{index}].scope", group, known)
    for where, entry in _entries(given):
        groups = entry.get("groups")
        for group in groups if isinstance(groups, list) else ():
            yield from _nearly(f"{where}: groups", str(group), known)


def bounds(given: Inputs) -> Iterator[str]:
    """Yield models that can never start within the service's own bounds."""
    always = 0
    for where, entry in _entries(given):
        slurm = _mapping(entry.get("slurm"))
        nodes = _whole(slurm.get("nodes", 1))
        gpus = _whole(slurm.get("gpus", 0)) * nodes
        always += _whole(entry.get("min", 0))
        most = str(given.get("scheduler_max_gpus", ""))
        if most.isdigit() and int(most) and gpus > int(most):
            yield (
                f"{where}: an instance takes {gpus} GPUs, and scheduler_max_gpus is {most}. Raise it, or "
                "take fewer"
            )
        limit = int(given.get("scheduler_max_nodes", 0))
        if 0 < limit < nodes:
            yield f"{where}: an instance takes {nodes} nodes, and scheduler_max_nodes is {limit}. Raise it"
    most_instances = int(given.get("scheduler_max_instances", always))
    if always > most_instances:
        yield (
            f"model_entries want {always} instances at all times (min), and scheduler_max_instances is "
            f"{most_instances}. Raise it"
        )


def clusters(given: Inputs, hosts: Mapping[str, Inputs], relays: Iterable[str]) -> Iterator[str]:
    """Yield login nodes whose host of the inventory is no relay, or is one of a cluster with another name."""
    for index, entry in enumerate(given.get("proxy_clusters", ())):
        host = entry.get("inventory_host")
        if host not in hosts:
            continue
        theirs = hosts[host].get("relay_cluster")
        if host not in relays:
            yield (
                f"proxy_clusters[{index}]: {host} is not in the group relay. Add it there, or name a login "
                "node"
            )
        elif theirs is not None and theirs != entry.get("name"):
            yield (
                f"proxy_clusters[{index}].name is {entry.get('name')}, and {host} belongs to the cluster "
                f"{theirs} (sluice_cluster). Give both the same name"
            )


def _entries(given: Inputs) -> list[tuple[str, Mapping[str, Any]]]:
    found = enumerate(given.get("model_entries", ()))
    return [(f"model_entries[{index}] ({one.get('name')})", one) for index, one in found]


def _groups(given: Inputs) -> list[str]:
    """Return the groups that settings name as the provider's or as their own names for them."""
    found = [*given.get("web_user_groups", ()), *given.get("web_admin_groups", ())]
    found += given.get("web_group_names", {}).values()
    for members in given.get("web_projects", {}).values():
        found += members if isinstance(members, list) else []
    return [str(one) for one in found]


def _nearly(where: str, group: str, known: Iterable[str]) -> Iterator[str]:
    names = sorted(known)
    near = difflib.get_close_matches(group.casefold(), names, 1, NEAR) if group not in names else []
    if near:
        yield f"{where}: {group} is a group that no other setting names. Write {near[0]}, if that is meant"


def _offer(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"Write {near[0]}" if near else "Add the entry, or remove the limit"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


RULES = (units, arguments, names, references, bounds)
