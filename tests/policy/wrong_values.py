"""Wrong values of an inventory: the case, the variables, and what the message must say of each.

`@certificates@` stands for the folder with the certificates that tests/policy/test_planted.py makes.
"""

from __future__ import annotations

from typing import Any

from tests.policy.planted import SECRETS
from tests.policy.tree import ROOT, read_yaml

MODELS: list[dict[str, Any]] = read_yaml(ROOT / "inventories/example/group_vars/all/models.yml")[
    "model_entries"
]
CLUSTER = {
    "name": "cluster",
    "host": "login1.cluster.example.org",
    "inventory_host": "login1.cluster.example.org",
}
Row = tuple[str, dict[str, Any], list[str]]


def model(**changes: Any) -> dict[str, Any]:
    """Return the example's models with some fields of the first one changed."""
    return {"model_entries": [{**MODELS[0], **changes}, *MODELS[1:]]}


def slurm(**changes: Any) -> dict[str, Any]:
    """Return the example's models with some fields of the first one's `slurm` changed."""
    return model(slurm={**MODELS[0]["slurm"], **changes})


def limit(**rule: Any) -> dict[str, Any]:
    """Return one limit."""
    return {"web_limits": [{"scope": "site", "concurrent": 9, **rule}]}


NAMES: list[Row] = [
    ("a misspelt input", {"relay_form": ["192.0.2.10"]}, ["relay_form", "Write relay_from"]),
    ("a misspelt shared name", {"sluice_clutser": "c"}, ["sluice_clutser", "Write sluice_cluster"]),
    ("a misspelt prefix", {"schedular_max_gpus": 4}, ["schedular_max_gpus", "Write scheduler_max_gpus"]),
    ("a name in capitals", {"Web_Public_URL": "x"}, ["Web_Public_URL", "Write web_public_url"]),
    (
        "a misspelt secret",
        {"vault_web_secretkey": "x"},
        ["vault_web_secretkey", "Write vault_web_secret_key"],
    ),
    ("a name that was never one", {"web_theme_colour": "red"}, ["web_theme_colour", "Remove it"]),
    ("the singular", {"web_admin_group": ["a"]}, ["web_admin_group ", "Write web_admin_groups"]),
    ("a longer name", {"proxy_cors_allowed_origins": []}, ["Write proxy_cors_origins"]),
    ("a misspelt list of models", {"model_entires": []}, ["model_entires", "Write model_entries"]),
    ("a misspelt lock", {"engine_lock": {}}, ["engine_lock ", "Write engine_locks"]),
    ("a dash too few", {"nginx_servername": "a"}, ["nginx_servername", "Write nginx_server_name"]),
    ("a word too much", {"prometheus_retention_days": 9}, ["Write prometheus_retention"]),
    ("letters in the wrong order", {"login_base_sahred": "/a"}, ["Write login_base_shared"]),
    ("one letter too few", {"gateway_base_pyton": "/a"}, ["Write gateway_base_python"]),
]
TYPES: list[Row] = [
    ("a text for a list", {"relay_from": "192.0.2.10"}, ["relay_from must be a list"]),
    (
        "a text for a list of origins",
        {"proxy_cors_origins": "https://a.example.org"},
        ["proxy_cors_origins must"],
    ),
    ("a text for groups", {"web_admin_groups": "hpc-admins"}, ["web_admin_groups must be a list"]),
    ("a text for scopes", {"web_oidc_scopes": "openid profile"}, ["web_oidc_scopes must be a list"]),
    ("a text for partitions", {"scheduler_partitions": "gpu"}, ["scheduler_partitions must be a list"]),
    ("a text for folders", {"model_box_read": "/opt"}, ["model_box_read must be a list"]),
    (
        "a text for packages",
        {"gateway_base_packages": "python3-venv"},
        ["gateway_base_packages must be a list"],
    ),
    ("a list for a dictionary", {"engine_locks": ["vllm"]}, ["engine_locks must be a dictionary"]),
    ("a list for a text", {"web_public_url": ["https://a.example.org"]}, ["web_public_url must be text"]),
    ("a yes-or-no in quotes", {"login_base_manage_account": "no"}, ["true or false without quotes"]),
    ("no value", {"nginx_server_name": None}, ["nginx_server_name is empty"]),
    ("an unknown choice", {"proxy_cache_salt": "group"}, ["proxy_cache_salt must be one of user, project"]),
    ("another unknown choice", {"scheduler_launcher": "cronjob"}, ["cron, systemd, scrontab"]),
    ("an unknown log level", {"relay_log_level": "loud"}, ["relay_log_level", "debug, info"]),
    ("a misspelt box", {"sluice_engine_box": "bwrap"}, ["model_engine_box must be one of bubblewrap"]),
    ("a key of a login node", {"proxy_clusters": [{"name": "c", "hots": "h"}]}, ["hots", "write host"]),
    ("a key of a limit", limit(token_per_day=1), ["token_per_day", "write tokens_per_day"]),
    ("a limit without scope", {"web_limits": [{"concurrent": 1}]}, ["web_limits[0].scope is required"]),
    ("a name without value", {"web_database": "{{ web_db }}"}, ["web_database cannot be read"]),
    ("a port that is a word", {"prometheus_port": "http"}, ["prometheus_port must be a whole number"]),
    ("bytes with a unit", {"nginx_max_body": "32M"}, ["nginx_max_body", "write 33554432"]),
    ("bytes with a long unit", {"relay_max_answer": "64MiB"}, ["relay_max_answer", "write 67108864"]),
    ("seconds with a unit", {"web_session_idle": "2h"}, ["web_session_idle", "write 7200"]),
    ("seconds as a clock", {"scheduler_drain_timeout": "00:10:00"}, ["drain_timeout", "write 600"]),
    ("days with a unit", {"web_key_days": "90d"}, ["web_key_days", "write 90"]),
    ("minutes with a unit", {"proxy_queue_wait": "5min"}, ["proxy_queue_wait", "write 300"]),
]
VALUES: list[Row] = [
    (
        "two parts on one port",
        {"proxy_status_port": 9466, "authority_status_port": 9466},
        ["proxy_status_port", "Give each its own port"],
    ),
    (
        "no models without a yes",
        {"model_entries": []},
        ["every model would be", "model_no_models: true"],
    ),
    (
        "a yes to no models with models",
        {"model_no_models": True},
        ["model_entries has some", "Remove"],
    ),
    ("a port of sshd", {"nginx_port": 22}, ["nginx_port is 22, the port of sshd"]),
    (
        "TLS on the port of HTTP",
        {"nginx_port": 80, "nginx_redirect_port": 0},
        ["nginx_port is 80", "Use 443"],
    ),
    (
        "a port that the kernel lends",
        {"web_status_port": 40000},
        ["web_status_port", "outgoing connections"],
    ),
    ("another such port", {"authority_status_port": 32768}, ["authority_status_port", "below 32768"]),
    ("a port of Slurm", {"prometheus_port": 6817}, ["prometheus_port is 6817, the port of slurmctld"]),
    ("jobs on ports of Slurm", {"scheduler_ports": "6000-7000"}, ["scheduler_ports", "6817 (slurmctld)"]),
    ("jobs on ports of NFS", {"scheduler_ports": "2000-3000"}, ["scheduler_ports", "2049 (NFS)"]),
    ("jobs on ports that the kernel lends", {"scheduler_ports": "32000-33000"}, ["outgoing connections"]),
    ("too few ports", {"scheduler_ports": "20000-20004"}, ["5 ports", "scheduler_max_instances (20)"]),
    ("a login node on Slurm's port", {"proxy_clusters": [{**CLUSTER, "port": 6818}]}, ["that of slurmd"]),
    (
        "metrics on another port",
        {"prometheus_targets": {"proxy": 9000}},
        ["prometheus_targets.proxy is 9000"],
    ),
    (
        "a public URL with another name",
        {"web_public_url": "https://ai.example.org"},
        ["ai.example.org", "same"],
    ),
    (
        "a public URL with another port",
        {"web_public_url": "https://chat.example.org:8443", "nginx_balancers": []},
        ["8443", "nginx_port"],
    ),
    ("a public URL with no port", {"web_public_url": "https://chat.example.org:99999"}, ["1 to 65535"]),
    (
        "an issuer with the discovery path",
        {"web_oidc_issuer": "https://a.example.org/.well-known/x"},
        ["before it"],
    ),
    (
        "an issuer with a query",
        {"web_oidc_issuer": "https://a.example.org/?realm=x"},
        ["discovery document"],
    ),
    ("a public URL with dots for a path", {"web_public_url": "https://chat.example.org/../x"}, ["name/path"]),
    (
        "a colour that cannot be read",
        {"web_site_accent": {"light": "#6fb3ff", "dark": "#8ab8ff"}},
        ["accent.light", "4.5:1", "the nearest colour that has it"],
    ),
    (
        "a colour for light pages alone",
        {"web_site_accent": {"light": "#0f766e"}},
        ["branding.accent.dark", "web_"],
    ),
    (
        "a colour by name",
        {"web_site_accent": {"light": "teal", "dark": "#8ab8ff"}},
        ["accent.light", "#0f766e"],
    ),
    ("a name in two lines", {"web_site_name": "a\nb"}, ["branding.name", "one line"]),
    ("a logo that is not there", {"web_site_logo": "/nowhere/logo.svg"}, ["There is no file: /nowhere/logo"]),
    ("a text for a logo", {"web_site_logo": "@certificates@/good.key"}, ["web_site_logo", "neither a PNG"]),
    (
        "a text that is not there",
        {"web_site_imprint": {"de": "/nowhere/imprint.md"}},
        ["There is no file: /nowhere/imprint.md", "inventory_dir"],
    ),
    (
        "a language that the pages do not have",
        {"web_site_privacy": {"fr": "https://example.org/"}},
        ["branding.privacy", "'fr'", "en, de, ja"],
    ),
    ("itself as the issuer", {"web_oidc_issuer": "https://chat.example.org"}, ["own address"]),
    (
        "itself as the login node",
        {"proxy_clusters": [{**CLUSTER, "host": "localhost"}]},
        ["the gateway itself"],
    ),
    ("a balancer that is none", {"nginx_balancers": ["10.0.0.999"]}, ["10.0.0.999", "not an address"]),
    ("a balancer with last bits", {"nginx_balancers": ["10.1.2.3/8"]}, ["10.1.2.3/8", "last bits"]),
    (
        "balancers all over",
        {"nginx_balancers": ["64.0.0.0/2"]},
        ["64.0.0.0/2", "large part of the Internet"],
    ),
    ("sessions from everywhere", {"relay_from": ["0.0.0.0/0"]}, ["use [any]"]),
    ("sessions from half of it", {"relay_from": ["128.0.0.0/1"]}, ["128.0.0.0/1", "large part"]),
    (
        "sessions from itself",
        {"relay_from": ["127.0.0.1"]},
        ["127.0.0.1", "no address that another machine"],
    ),
    ("sessions from a name", {"relay_from": ["chat.example.org"]}, ["Names do not work"]),
    ("sessions from a malformed network", {"relay_from": ["10.77.0.999/33"]}, ["10.77.0.999/33 is not"]),
    ("memory with a B", {"proxy_memory_max": "2GB"}, ["proxy_memory_max must be a size such as 512M"]),
    ("memory in small letters", {"web_memory_max": "1g"}, ["web_memory_max must be a size"]),
    ("memory without a unit", {"authority_memory_max": "512"}, ["authority_memory_max must be a size"]),
    ("memory for nothing", {"web_memory_max": "1M"}, ["web_memory_max is less than 64M"]),
    (
        "memory below its buffers",
        {"proxy_memory_max": "128M"},
        ["proxy_memory_max (128M)", "proxy_max_buffered"],
    ),
    (
        "a placeholder",
        {"vault_web_secret_key": "please-change-me-before-production-use"},
        ["can be guessed"],
    ),
    (
        "one letter again and again",
        {"vault_web_key_secret": "s" * 40},
        ["web_key_secret", "can be guessed"],
    ),
    (
        "the provider's secret as a word",
        {"vault_web_oidc_client_secret": "secret"},
        ["vault_web_oidc_client_secret"],
    ),
    (
        "one secret for two",
        {"vault_web_key_secret": SECRETS["vault_web_secret_key"]},
        ["web_key_secret is the same secret as web_secret_key"],
    ),
    (
        "an old secret that is the current one",
        {"web_old_key_secrets": [{"id": "0", "value": SECRETS["vault_web_key_secret"]}]},
        ["web_old_key_secrets[0].value is the same secret as web_key_secret"],
    ),
    (
        "a secret with a blank",
        {"vault_web_secret_key": SECRETS["vault_web_secret_key"] + " "},
        ["white space"],
    ),
    ("a missing secret", {"vault_web_key_secret": ""}, ["vault_web_key_secret", "ansible-vault edit"]),
    ("a wall time as Slurm writes it", slurm(time="2-00:00:00"), ["slurm.time", "Write time: 2880"]),
    ("a wall time in hours", slurm(time="48h"), ["slurm.time", "Write time: 2880"]),
    ("memory as Slurm writes it", slurm(memory_mb="64G"), ["slurm.memory_mb", "Write memory_mb: 65536"]),
    ("memory in GiB", slurm(memory_mb=64), ["memory_mb counts MiB", "memory_mb: 65536"]),
    (
        "a context with a unit",
        model(context_length="32k"),
        ["context_length", "Write context_length: 32768"],
    ),
    ("a rest with a unit", model(idle_stop="30m"), ["idle_stop", "Write idle_stop: 1800"]),
    ("an engine on its own port", model(engine_args=["--port=8000"]), ["must not have --port"]),
    ("an engine with its own key", model(engine_args=["--api-key", "x"]), ["must not have --api-key"]),
    ("a model under another name", model(engine_args=["--served-model-name=x"]), ["--served-model-name"]),
    (
        "a model that takes too many GPUs",
        slurm(gpus=8, nodes=8),
        ["takes 64 GPUs", "scheduler_max_gpus is 32"],
    ),
    (
        "models that always run, too many",
        model(min=30, max=30),
        ["30 instances", "scheduler_max_instances"],
    ),
    ("a model's near group", model(groups=["Staff"]), ["Staff is a group", "Write staff"]),
    ("a model's misspelt group", model(groups=["studnets"]), ["studnets is a group", "Write students"]),
    (
        "names that differ by case",
        {"model_entries": [*MODELS, {**MODELS[0], "name": "Llama-3.1-8B"}]},
        ["llama-3.1-8b and Llama-3.1-8B differ by case only"],
    ),
    ("groups that differ by case", {"web_admin_groups": ["staff", "Staff"]}, ["differ by case only"]),
    (
        "a limit of an unknown model",
        limit(model="llama-3.1-8B"),
        ["web_limits[0].model", "Write llama-3.1-8b"],
    ),
    ("a limit of no model at all", limit(model="mistral"), ["no entry of model_entries is named mistral"]),
    (
        "a persona for an unknown model",
        {"web_personas": [{"name": "Tutor", "model": "llama-3.1-8B"}]},
        ["web_personas[0].model", "Write llama-3.1-8b"],
    ),
    (
        "a persona that is too hot",
        {"web_personas": [{"name": "Poet", "temperature": 3}]},
        ["web_personas", "a temperature from 0 to 2"],
    ),
    (
        "two personas of one name",
        {"web_personas": [{"name": "Poet", "seed": 1}, {"name": "Poet", "seed": 2}]},
        ["web_personas", "a name of its own"],
    ),
    (
        "a limit of a misspelt group",
        limit(scope="member:studnets"),
        ["studnets is a group", "Write students"],
    ),
    (
        "another cluster's name",
        {"proxy_clusters": [{**CLUSTER, "name": "other"}]},
        ["proxy_clusters[0].name is other", "belongs to the cluster cluster"],
    ),
    (
        "a gateway as the login node",
        {"proxy_clusters": [{**CLUSTER, "inventory_host": "chat.example.org"}]},
        ["chat.example.org is not in the group relay"],
    ),
    (
        "another certificate's key",
        {"nginx_certificate_key": "@certificates@/other.key"},
        ["nginx_certificate_key is not the key of nginx_certificate"],
    ),
    (
        "an expired certificate",
        {"nginx_certificate": "@certificates@/old.pem", "nginx_certificate_key": "@certificates@/old.key"},
        ["nginx_certificate expired on 2026-11-29", "Renew it"],
    ),
    (
        "a certificate of the future",
        {"nginx_certificate": "@certificates@/new.pem", "nginx_certificate_key": "@certificates@/new.key"},
        ["nginx_certificate is valid only from 2026-12-01"],
    ),
    (
        "a certificate of another name",
        {"nginx_certificate": "@certificates@/name.pem", "nginx_certificate_key": "@certificates@/name.key"},
        ["nginx_certificate is for ai.example.org and not for nginx_server_name (chat.example.org)"],
    ),
    (
        "a key for a certificate",
        {"nginx_certificate": "@certificates@/good.key"},
        ["not a certificate in PEM"],
    ),
    (
        "a certificate for a key",
        {"nginx_certificate_key": "@certificates@/good.pem"},
        ["not a private key in PEM"],
    ),
    (
        "a certificate that is not there",
        {"nginx_certificate": "/none.pem"},
        ["nginx_certificate", "Put the"],
    ),
    ("an authority that is none", {"web_ca_file": "@certificates@/good.key"}, ["web_ca_file contains no"]),
]
