"""Names that nothing reads: variables, groups, files of variables. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from .faults import Definition, Fault
from .files import Lines

# From this similarity on, a name is offered as the one that was meant.
OFFERED = 0.7
# From this similarity on, a name without one of Sluice's prefixes counts as a misspelt one.
NEAR = 0.87
NEAR_GROUP = 0.75
_WORD = re.compile(r"[A-Za-z_]\w*")
GATEWAY = ("nginx", "proxy", "web", "authority", "prometheus")
LOGIN = ("relay", "scheduler", "engine", "model")
NEEDED = {"gateway": ("nginx", "proxy", "web", "authority"), "login_node": ("relay", "scheduler", "model")}
GROUPS = (*GATEWAY, *LOGIN, *NEEDED, "all", "ungrouped")
WHAT = {
    "nginx": "nobody reaches the gateway",
    "proxy": "nothing serves the API",
    "web": "nobody can sign in",
    "authority": "the proxy cannot check keys",
    "relay": "the gateway cannot reach the cluster",
    "scheduler": "no instance starts",
    "model": "no model is registered",
}


def unknown_names(lines: Lines, known: Collection[str], roles: Collection[str]) -> Iterator[Fault]:
    """Yield each variable with a prefix or nearly a name of Sluice's that nothing reads.

    A name that another value of the inventory uses in a template is the site's own.
    """
    used = {word for text in lines.texts for word in _WORD.findall(text)}
    prefixes = tuple(f"{before}{role}_" for role in (*roles, "sluice") for before in ("", "vault_"))
    for one in lines.definitions:
        name = one.name
        if name in known or name in used or name.startswith("ansible_"):
            continue
        ours = name.startswith(prefixes)
        near = difflib.get_close_matches(name.lower(), known, 1, OFFERED if ours else NEAR)
        if ours or near:
            remedy = f"Write {near[0]}" if near else "Remove it; the roles' READMEs list all names"
            yield Fault(f"{name} ({one.holder}) is a name that no role knows. {remedy}", one.place)


def idle_names(
    definitions: Iterable[Definition], inputs: Mapping[str, str], groups: Mapping[str, Collection[str]]
) -> Iterator[Fault]:
    """Yield each input set for a group or host to which its role does not belong, so that nothing reads it.

    `inputs`: the role of each input. `groups`: the hosts of each group.
    """
    for one in definitions:
        kind, _, holder = one.holder.partition(" ")
        role = inputs.get(one.name, "")
        if kind == "all" or role not in groups:
            continue
        hosts = {holder} if kind == "host" else set(groups.get(holder, ()))
        if hosts and not hosts & set(groups[role]):
            yield Fault(
                f"{one.name} is set for the {one.holder}, where no host is in the group {role}, which "
                f"reads it. Set it for the group {role}, or for all",
                one.place,
            )


def unknown_groups(lines: Lines, groups: Collection[str], hosts: Collection[str]) -> Iterator[Fault]:
    """Yield groups whose name is nearly one of Sluice's, and files that no group or host reads."""
    for name, place in lines.groups.items():
        near = _near(name, GROUPS)
        if near:
            yield Fault(
                f"the group {name} is one that nothing reads. Write {near}, or use another name", place
            )
    for kind, names, known in (("group", lines.for_groups, groups), ("host", lines.for_hosts, hosts)):
        for name, place in names.items():
            if name not in known:
                near = _near(name, known)
                remedy = f"Name it {near}" if near else f"Add the {kind} to hosts.yml, or remove it"
                yield Fault(
                    f"{kind}_vars/{name} is for a {kind} that the inventory does not have. {remedy}", place
                )


def _near(name: str, known: Collection[str]) -> str:
    if name in known:
        return ""
    plain = name.lower().replace("-", "_")
    return (difflib.get_close_matches(plain, list(known), 1, NEAR_GROUP) or [""])[0]


def groups_needed(groups: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """Yield groups that a site needs and that are empty, and hosts that lack a group they need.

    An inventory may have only the gateway, or only a cluster.
    """
    sides = {"gateway": GATEWAY, "login_node": LOGIN}
    used = [place for place, side in sides.items() if any(groups.get(one) for one in (*side, place))]
    if not used:
        yield Fault("all groups of Sluice are empty. Enter your hosts in the inventory's hosts.yml")
    for place in used:
        for name in NEEDED[place]:
            if not groups.get(name):
                yield Fault(
                    f"the group {name} is empty: {WHAT[name]}. Add {name}: {{children: {{{place}: {{}}}}}} "
                    f"to the inventory's hosts.yml"
                )
    yield from _companions(groups)


def _companions(groups: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    both = {host for one in GATEWAY for host in groups.get(one, ())} & {
        host for one in LOGIN for host in groups.get(one, ())
    }
    for host in sorted(both):
        mine = [one for one in (*GATEWAY, *LOGIN) if host in groups.get(one, ())]
        yield Fault(
            f"{host} is in the groups {', '.join(mine)}: gateway and login node must be different machines. "
            f"Correct the inventory's hosts.yml"
        )
    needs = [("nginx", "proxy"), ("nginx", "web"), ("authority", "web"), ("web", "authority")]
    for role, other in [*needs, ("model", "scheduler"), ("scheduler", "model")]:
        for host in sorted(set(groups.get(role, ())) - set(groups.get(other, ()))):
            if groups.get(other):
                yield Fault(
                    f"{host} is in the group {role} and must be in the group {other} too. "
                    f"Correct the inventory's hosts.yml"
                )
