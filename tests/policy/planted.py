"""Inventories with planted faults, checked in this process as playbooks/validate.yml checks them."""

from __future__ import annotations

import datetime
import functools
import importlib.util
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.policy.tree import ROOT

EXAMPLE = ROOT / "inventories" / "example"
SECRETS = {
    "vault_web_secret_key": "Zk3vJ8qYd1RtWm5xLb7cNf9hPg2sKa4uEo6iTy0w",
    "vault_web_key_secret": "q9XnB4rTz7LcVf2mHk6jSd8gPw1yUe5aRo3iMt0x",
    "vault_web_oidc_client_secret": "Gh7kLm2nPq9rSt4vWx6y",
}
# Fixed, so that no test depends on the day: the checks take the day as an argument.
TODAY = datetime.datetime(2026, 11, 30, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Plant:
    """A change of the example.

    `values` get a file of their own, `files` are written, `swaps` replace text in hosts.yml, and `without`
    names variables that the example sets and this site does not.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    swaps: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@functools.lru_cache(maxsize=1)
def action() -> ModuleType:
    """Import the action plugin as Ansible does, by its path."""
    init_plugin_loader()
    path = ROOT / "action_plugins" / "sluice_inventory.py"
    spec = importlib.util.spec_from_file_location("sluice_inventory_action", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def certificate(
    folder: Path, name: str, first: int = -30, last: int = 300, host: str = "chat.example.org"
) -> None:
    """Write NAME.pem and NAME.key: a certificate valid from `first` to `last` days from TODAY."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TODAY + datetime.timedelta(days=first))
        .not_valid_after(TODAY + datetime.timedelta(days=last))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form))


@functools.cache
def _role_file(path: Path) -> Any:
    return DataLoader().load_from_file(str(path), trusted_as_template=True)


def site(folder: Path, plant: Plant, certificates: Path) -> Path:
    """Make a copy of the example in `folder` with its secrets filled in and the change; return it."""
    shutil.copytree(EXAMPLE, folder, symlinks=True)
    shared = folder / "group_vars" / "all"
    (shared / "00-common").unlink()
    (shared / "00-common").symlink_to(ROOT / "inventories" / "common" / "group_vars" / "all")
    (folder / "groups.yml").unlink()
    (folder / "groups.yml").symlink_to(ROOT / "inventories" / "common" / "groups.yml")
    (shared / "vault.yml").write_text(yaml.safe_dump(SECRETS))
    text = (
        (shared / "site.yml").read_text().replace("/etc/ssl/sluice/chat.example.org", f"{certificates}/good")
    )
    for name in plant.without:
        values = yaml.safe_load(text)
        del values[name]
        text = yaml.safe_dump(values)
    (shared / "site.yml").write_text(text)
    if plant.values:
        (shared / "zz-planted.yml").write_text(yaml.safe_dump(dict(plant.values), sort_keys=False))
    hosts = folder / "hosts.yml"
    for old, new in plant.swaps.items():
        assert old in hosts.read_text(), old
        hosts.write_text(hosts.read_text().replace(old, new))
    for name, content in plant.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def said(folder: Path) -> str:
    """Return what validate says of the inventory in a folder; "" if it is correct."""
    module = action()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(folder)])
    variables = VariableManager(loader=loader, inventory=manager)
    hostvars = HostVars(inventory=manager, variable_manager=variables, loader=loader)
    known = {"playbook_dir": str(ROOT / "playbooks")}
    # Parsing the roles takes half of the time, and they are the same for each inventory.
    checked = module.inventory(loader, hostvars, manager.get_groups_dict(), known, load=_role_file, now=TODAY)
    lines = checked.lines([folder], lambda path: loader.get_text_file_contents(str(path)), {})
    with warnings.catch_warnings():
        # Of a backslash in a role's regular expression; Ansible reads it as meant.
        warnings.simplefilter("ignore", DeprecationWarning)
        message: str = checked.message(lines)
    return message
