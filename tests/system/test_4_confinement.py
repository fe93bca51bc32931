"""What a gateway VM in an attacker's hands can do with its key: the relay's bytes, and nothing else."""

from __future__ import annotations

import base64
import json
import shlex

import pytest

from demo.deployment import Deployment
from sluice.wire.frames import Decoder, FrameType
from tests.system.service import MODEL, Service

SSH = (
    "runuser -u sluice-proxy -- ssh -i /etc/sluice/ssh/id_ed25519 -o BatchMode=yes "
    "-o UserKnownHostsFile=/etc/sluice/ssh/known_hosts -o StrictHostKeyChecking=yes -o ConnectTimeout=5"
)
MARK = "/tmp/sluice-was-here"

ATTEMPTS = {
    "a shell": f"{SSH} sluice-relay@login",
    "a command": f"{SSH} sluice-relay@login 'touch {MARK}; id'",
    "a pty": f"{SSH} -tt sluice-relay@login 'touch {MARK}; id'",
    "the sftp subsystem": f"{SSH} -s sluice-relay@login sftp",
    "an agent": f"eval $(ssh-agent) >/dev/null; {SSH} -A sluice-relay@login 'touch {MARK}'; "
    "kill $SSH_AGENT_PID",
    "X11": f"DISPLAY=:9 {SSH} -X sluice-relay@login 'touch {MARK}'",
    "an environment": f"LD_PRELOAD=/tmp/x BASH_ENV=/tmp/x {SSH} -o SendEnv=LD_PRELOAD -o SendEnv=BASH_ENV "
    "-o SetEnv=PYTHONPATH=/tmp sluice-relay@login",
}


def output(service: Service, command: str) -> bytes:
    """Run a command on the gateway with no input, for at most 6 s, and return its standard output."""
    script = f"timeout 6 bash -c {shlex.quote(command)} </dev/null 2>/dev/null | base64 -w0; true"
    return base64.b64decode(service.shell("gw", script))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_trying_to_cheat_with_the_proxys_key(service: Service, attempt: str) -> None:
    service.shell("login", f"rm -f {MARK}")
    said = output(service, ATTEMPTS[attempt])
    frames = Decoder().feed(said)
    assert [frame.type for frame in frames][:1] in ([FrameType.HELLO], []), said[:200]
    assert b"uid=" not in said
    assert service.try_shell("login", f"ls {MARK}").startswith("ls: cannot access")


@pytest.mark.parametrize("tool", ["sftp -b /dev/null", "scp /etc/hostname"])
def test_trying_to_cheat_with_file_copies(service: Service, tool: str) -> None:
    options = SSH.partition(" ssh ")[2]
    target = "sluice-relay@login:/tmp/sluice-was-here" if tool.startswith("scp") else "sluice-relay@login"
    command = (
        f"runuser -u sluice-proxy -- timeout 8 {tool.split()[0]} {options} {tool.partition(' ')[2]} {target}"
    )
    service.shell("login", f"rm -f {MARK}")
    done = service.bed.run("gw", ["bash", "-c", f"{command} </dev/null"], timeout=30)
    assert done.returncode != 0
    assert service.try_shell("login", f"ls {MARK}").startswith("ls: cannot access")


@pytest.mark.parametrize(
    ("kind", "options", "probe"),
    [
        ("local", "-L 127.0.0.1:9022:127.0.0.1:22", "timeout 3 cat </dev/tcp/127.0.0.1/9022"),
        (
            "stream-local",
            "-L 127.0.0.1:9023:/run/munge/munge.socket.2",
            "timeout 3 cat </dev/tcp/127.0.0.1/9023",
        ),
        (
            "dynamic",
            "-D 127.0.0.1:9024",
            "timeout 4 curl -s -x socks5://127.0.0.1:9024 telnet://127.0.0.1:22",
        ),
    ],
)
def test_trying_to_cheat_with_forwarding(service: Service, kind: str, options: str, probe: str) -> None:
    script = f"{SSH} {options} -N sluice-relay@login & sleep 2; {probe} | head -c 100; kill %1; true"
    said = service.try_shell("gw", script, timeout=30)
    assert "SSH-" not in said, kind


def test_trying_to_cheat_with_remote_forwarding(service: Service) -> None:
    script = (
        f"timeout 6 {SSH} -o ExitOnForwardFailure=yes -R 9025:127.0.0.1:22 -N sluice-relay@login; echo $?"
    )
    said = service.try_shell("gw", script, timeout=30)
    assert "forwarding failed" in said
    assert service.try_shell("login", "ss -ltn | grep -c :9025").strip() == "0"


def test_trying_to_cheat_with_netcat_mode(service: Service) -> None:
    assert b"SSH-" not in output(service, f"{SSH} -W 127.0.0.1:22 sluice-relay@login")


def test_the_relays_account_may_not_submit_a_job(service: Service) -> None:
    done = service.bed.run("login", ["runuser", "-u", "sluice-relay", "--", "sbatch", "--wrap=id"])
    assert done.returncode != 0
    assert "Submitted" not in done.stdout


def test_the_relays_account_reads_no_secret_of_the_scheduler(service: Service) -> None:
    for path in ("/var/lib/sluice/state/state.json", "/shared/sluice/jobs"):
        done = service.bed.run("login", ["runuser", "-u", "sluice-relay", "--", "ls", path])
        assert done.returncode != 0, path


def test_neither_account_may_change_code_or_settings(service: Service) -> None:
    writable = service.shell(
        "login",
        "for account in sluice sluice-relay; do runuser -u $account -- find /etc/sluice /opt/sluice "
        "/usr/local/libexec/sluice /etc/ssh /etc/cron.d -writable ! -type l 2>/dev/null; done; true",
    )
    assert writable == ""


@pytest.mark.parametrize(
    ("path", "reader"),
    [("/etc/sluice/ssh/id_ed25519", "sluice-proxy"), ("/etc/sluice/web.json", "sluice-web")],
)
def test_a_secret_on_the_gateway_has_one_reader(service: Service, path: str, reader: str) -> None:
    for account in ("sluice-proxy", "sluice-web", "www-data", "prometheus", "nobody"):
        done = service.bed.run("gw", ["runuser", "-u", account, "--", "head", "-c1", path])
        assert (done.returncode == 0) == (account == reader), account


def test_no_process_carries_a_secret_in_its_arguments(service: Service) -> None:
    table = json.loads(service.shell("login", "cat /var/lib/sluice/routing.json"))
    secrets = [instance["key"] for model in table["models"].values() for instance in model["instances"]]
    assert secrets
    secrets.append(service.key)
    for host in ("gw", "login", "c1", "c2"):
        arguments = service.shell(host, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
        assert not any(secret in arguments for secret in secrets), host


def test_the_circuit_breaker_needs_no_vm(service: Service) -> None:
    service.shell("login", "touch /etc/sluice/closed")
    try:
        answer = service.chat("hi", MODEL)
        assert (answer.status, answer.code) == (503, "closed")
    finally:
        service.shell("login", "rm /etc/sluice/closed")
    assert service.chat("hi", MODEL).status == 200


def test_what_locks_the_gateway_out_is_told_by_check_with_all_that_is_wrong(
    service: Service, deployment: Deployment
) -> None:
    """sshd is not told to read it: nobody is locked out, and `sshd -T` sees what the next start would do."""
    site = "/etc/ssh/sshd_config.d/05-site.conf"
    service.shell("login", f"printf 'AllowGroups root\\nPermitUserEnvironment yes\\n' >{site}")
    try:
        done = deployment.play("playbooks/check.yml", "--limit", "login", check=False)
    finally:
        service.shell("login", f"rm {site}")
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "allowgroups (root) keeps sluice-relay out" in said
    assert "permituserenvironment is yes" in said
    # The other checks ran all the same.
    assert "Wait until the scheduler ticks" in said and "Wait until each model answers" in said


def test_the_gateways_own_command_tries_a_new_session(service: Service) -> None:
    said = service.shell("gw", "runuser -u sluice-proxy -- /opt/sluice/venv/bin/sluice proxy --try")
    assert "login (cluster demo): " in said
