"""`sluice proxy`: run the data plane."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import threading
from dataclasses import replace

from sluice import logs
from sluice.config import load
from sluice.errors import EXIT_FAILURE, ConfigError, SluiceError
from sluice.proxy.clusters.attack import attack
from sluice.proxy.clusters.session import Session
from sluice.proxy.clusters.ssh import SshTransport
from sluice.proxy.clusters.transport import TransportError
from sluice.proxy.config import ClusterConfig, ProxyConfig, check
from sluice.proxy.service import serve

DEFAULT_CONFIG = "/etc/sluice/proxy.json"

log = logging.getLogger("sluice.proxy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")
    parser.add_argument(
        "--try",
        dest="only_try",
        action="store_true",
        help="only open a new session with each login node, print the results, and end",
    )
    parser.add_argument(
        "--attack",
        action="store_true",
        help="only try what a thief of the proxy's key would try, print the results, and end",
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        default="",
        help="with --try and --attack: this SSH key, not the configured one",
    )
    parser.add_argument("--json", action="store_true", help="with --attack: print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, or only test the login nodes; return the exit status. Raises ConfigError."""
    if not (arguments.only_try or arguments.attack) and (arguments.key or arguments.json):
        raise ConfigError("--key and --json need --try or --attack")
    config = check(load(ProxyConfig, arguments.config), arguments.config)
    if arguments.key:
        clusters = tuple(replace(cluster, key_file=arguments.key) for cluster in config.clusters)
        config = replace(config, clusters=clusters)
    if arguments.only_try:
        return asyncio.run(_try_each(config))
    if arguments.attack:
        return _attack_each(config, as_json=arguments.json)
    logs.configure("proxy", config.log_level)
    _silence_libraries()
    try:
        asyncio.run(serve(config))
    except SluiceError:
        raise
    except Exception:
        # A task that must not end has ended: systemd restarts the process.
        log.exception("the proxy ends because of a fault")
        return EXIT_FAILURE
    return 0


async def _try_each(config: ProxyConfig) -> int:
    """Open and close one session with each login node; write failures to standard error."""
    problems = [problem for cluster in config.clusters if (problem := await _try_one(cluster))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return EXIT_FAILURE if problems else 0


async def _try_one(cluster: ClusterConfig) -> str:
    session = Session(SshTransport(cluster), cluster.name)
    try:
        hello = await session.start(cluster.connect_timeout)
    except TransportError as error:
        return f"no new session with {cluster.host} (cluster {cluster.name}): {error}"
    finally:
        session.say_goodbye()
        session.close("it was only a test")
        await session.wait_closed()
    print(f"{cluster.host} (cluster {cluster.name}): {hello.software} answers")
    return ""


def _attack_each(config: ProxyConfig, *, as_json: bool) -> int:
    """Attack every login node; print what it refused. Return EXIT_FAILURE if anything was not refused."""
    nodes = [(cluster, *_attack_one(cluster)) for cluster in config.clusters]
    if as_json:
        rows = [
            {"cluster": cluster.name, "host": cluster.host, "problem": problem, "attacks": attacks}
            for cluster, problem, attacks in nodes
        ]
        print(json.dumps({"version": 1, "login_nodes": rows}, indent=2))
    else:
        for cluster, problem, attacks in nodes:
            print(f"{cluster.host} (cluster {cluster.name}){f': {problem}' if problem else ''}")
            for one in attacks:
                print(f"  {one['name']}: {one['problem'] or 'refused'}")
    wrong = [1 for _, problem, attacks in nodes if problem or any(one["problem"] for one in attacks)]
    return EXIT_FAILURE if wrong else 0


def _attack_one(cluster: ClusterConfig) -> tuple[str, list[dict[str, str]]]:
    """Return why the login node could not be attacked, else "", and the results."""
    try:
        return "", [{"name": one.name, "problem": one.problem} for one in attack(cluster)]
    except TransportError as error:
        return str(error), []


def _silence_libraries() -> None:
    """Keep messages of libraries out of the log: they can quote data of requests."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
    threading.excepthook = _log_thread_fault


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_value is not None:
        log.error("fault in a thread", exc_info=(fault.exc_type, fault.exc_value, fault.exc_traceback))
