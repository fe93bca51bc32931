"""The demo: `python3 -m demo up|chat|status|down|clean`, called by the Makefile."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo.bed import preflight
from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import Progress
from demo.deployment import ACCOUNTS, ROOT, Deployment

MODEL = "smollm2-135m"
QUESTION = "What is the capital of France?"


def main() -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m demo", description="Sluice on hosts of this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action in (
        ("up", _up),
        ("chat", _chat),
        ("status", _status),
        ("down", _down),
        ("clean", _clean),
    ):
        text = (action.__doc__ or "").splitlines()[0]
        commands.add_parser(name, help=text, description=text).set_defaults(action=action)
    arguments = parser.parse_args()
    progress = Progress()
    deployment = Deployment(Bed("demo", "10.77.0", ROOT / ".demo", report=progress), progress)
    try:
        return int(arguments.action(deployment, progress))
    except BedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ndemo: interrupted; `make demo` goes on from here, `make demo-down` takes it down",
            file=sys.stderr,
        )
        return 130


def _up(deployment: Deployment, progress: Progress) -> int:
    """Bring everything up and ask a first question; print a message if it is up already."""
    if _is_up(deployment):
        progress("the demo is up already: nothing to do")
        _tell(deployment)
        return 0
    bed = deployment.bed
    found = preflight.failures(bed.plan.name, bed.state, bed.cache, preflight.Needs())
    if found:
        for failure in found:
            print(f"demo: {failure}", file=sys.stderr)
        return 1
    deployment.prepare()
    deployment.install()
    deployment.write_env()
    progress(f"asking {MODEL}: {QUESTION}")
    print()
    _ask(deployment, [{"role": "user", "content": QUESTION}])
    print()
    progress("the demo is up")
    _tell(deployment)
    return 0


def _chat(deployment: Deployment, progress: Progress) -> int:
    """Chat with the demo's model in the terminal; an empty line or Ctrl-D ends it."""
    deployment.read_env()
    print(f"Talking to {MODEL}. An empty line or Ctrl-D ends it.")
    messages: list[dict[str, str]] = []
    while question := _read_line():
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": _ask(deployment, messages)})
    return 0


def _status(deployment: Deployment, progress: Progress) -> int:
    """Show hosts, models and jobs."""
    print(f"{'HOST':<8}{'ADDRESS':<16}{'STATE':<8}MEMORY")
    hosts = deployment.bed.status()
    for host in hosts:
        state = "up" if host.up else "off"
        print(f"{host.name:<8}{host.address:<16}{state:<8}{host.memory / 1024**2:.0f} MiB")
    if not all(host.up for host in hosts):
        print("\nThe demo is not up: make demo")
        return 3
    print()
    for argv in (["/usr/local/bin/sluice", "status"], ["squeue", "--all"]):
        done = deployment.bed.run("login", argv)
        print(done.stdout or done.stderr)
    return 0


def _down(deployment: Deployment, progress: Progress) -> int:
    """End all hosts; caches stay."""
    deployment.env_file.unlink(missing_ok=True)
    progress("the demo is down" if deployment.bed.down() else "the demo was down already")
    return 0


def _clean(deployment: Deployment, progress: Progress) -> int:
    """Take the demo down and remove everything that it created in the checkout."""
    deployment.bed.clean()
    progress(f"removed {deployment.bed.state}")
    return 0


def _is_up(deployment: Deployment) -> bool:
    if not deployment.env_file.exists() or not all(host.up for host in deployment.bed.status()):
        return False
    try:
        return bool(deployment.client().models())
    except BedError:
        return False


def _ask(deployment: Deployment, messages: list[dict[str, str]]) -> str:
    answer = ""
    for piece in deployment.client().stream(MODEL, messages, temperature=0, max_tokens=200):
        print(piece, end="", flush=True)
        answer += piece
    print()
    return answer


def _read_line() -> str:
    try:
        return input("\nyou> ").strip()
    except EOFError:
        return ""


def _tell(deployment: Deployment) -> None:
    values = deployment.read_env()
    print(f"""
The page        {values["SLUICE_URL"]}
                (from another machine: ssh -D 1080 to this one, and a browser with that SOCKS proxy)
Its CA          {values["SLUICE_CA"]}
Accounts""")
    for account, groups in ACCOUNTS.items():
        print(f"  {account:<14}password {deployment.password(account)}  ({groups})")
    print(f"""For scripts     set -a; . {_relative(deployment.env_file)}; set +a
                SLUICE_URL, SLUICE_API_KEY, SLUICE_CA; then for example
                curl --cacert $SLUICE_CA -H "Authorization: Bearer $SLUICE_API_KEY" $SLUICE_URL/v1/models
Next            make chat, make demo-status, make demo-down
""")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
