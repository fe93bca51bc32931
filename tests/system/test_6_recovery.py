"""Kills, power cuts and a changed host key: the service comes back by itself, with no job too many."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.system.service import MARGIN, Answer, Service

Wait = Callable[[Callable[[], object], float, str], None]

KILLS = {
    "proxy": ("gw", "/opt/sluice/venv/bin/sluice proxy"),
    "web": ("gw", "sluice.web.wsgi:web"),
    "authority": ("gw", "sluice.web.wsgi:authority"),
    "relay": ("login", "sluice.pyz relay"),
    "scheduler": ("login", "sluice.pyz scheduler"),
    "sshd session": ("login", "sshd: sluice-relay"),
}


def settle(service: Service, eventually: Wait) -> None:
    """Wait until there is exactly one live job of the first model, and it answers."""
    service.wait_answering(300)
    eventually(lambda: len(service.live_jobs()) == 1, 120, "one job and no second one")


@pytest.mark.parametrize("part", KILLS)
def test_kill_9(steady: Service, part: str, eventually: Wait) -> None:
    host, pattern = KILLS[part]
    jobs = steady.live_jobs()
    killed = steady.kill9(host, pattern)
    assert killed >= 1 or part == "scheduler", f"no process of {part} was found"
    taken = steady.wait_answering(60)
    print(f"{part}: {killed} killed, answers after {taken:.1f} s")
    if part == "scheduler":
        eventually(
            lambda: "sluice.pyz scheduler" in steady.try_shell("login", "pgrep -af pyz"), 90, "cron's next"
        )
    assert steady.live_jobs() == jobs


def test_kill_9_of_the_front(steady: Service, eventually: Wait) -> None:
    (job,) = steady.live_jobs()
    assert steady.kill9(steady.node_of_job(job), "sluice.pyz front") >= 1
    settle(steady, eventually)
    assert steady.live_jobs() != [job]


def test_web_down_leaves_known_keys_working(steady: Service) -> None:
    steady.shell("gw", "systemctl stop sluice-web sluice-authority")
    try:
        time.sleep(8)  # longer than an answer of the authority stays fresh
        assert steady.chat("hi").status == 200
    finally:
        steady.shell("gw", "systemctl start sluice-web sluice-authority")


def test_scancel_under_load_loses_nothing(steady: Service, eventually: Wait) -> None:
    """A request each second; every one ends in an answer or in a 503 that says when to come back."""
    (job,) = steady.live_jobs()
    bound = steady.bound + MARGIN
    results: list[Answer | Exception] = []
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def ask() -> None:
        try:
            results.append(steady.chat("hi", within=bound, max_tokens=4))
        except OSError as error:
            results.append(error)

    def load() -> None:
        while not stop.wait(1.0) and len(threads) < 300:
            threads.append(threading.Thread(target=ask))
            threads[-1].start()

    loader = threading.Thread(target=load)
    loader.start()
    try:
        time.sleep(3)
        steady.shell("login", f"scancel {job}")
        settle(steady, eventually)
    finally:
        stop.set()
        loader.join()
    for thread in threads:
        thread.join(bound + MARGIN)
    assert not any(thread.is_alive() for thread in threads), "a request hangs"
    assert len(results) == len(threads)
    outcomes = Counter(answer.status if isinstance(answer, Answer) else repr(answer) for answer in results)
    print(f"outcomes: {dict(outcomes)}")
    assert set(outcomes) <= {200, 502, 503}, outcomes
    waiting = [answer for answer in results if isinstance(answer, Answer) and answer.status == 503]
    # While the successor starts requests are held; only those that wait too long are told to come back.
    assert all("retry-after" in answer.headers and answer.code for answer in waiting)
    # Only a request that the dying instance had begun to answer may break.
    assert outcomes[502] <= 2, outcomes
    assert steady.live_jobs() != [job]


@pytest.mark.parametrize("host", ["login", "c1", "c2"])
def test_power_cut(steady: Service, host: str, eventually: Wait) -> None:
    """`login` holds relay, scheduler and slurmctld; one of `c1` and `c2` holds the model's job."""
    steady.bed.power_cut(host)
    time.sleep(3)
    steady.bed.power_on(host)
    settle(steady, eventually)


def test_a_changed_host_key_is_refused_and_said(steady: Service, eventually: Wait) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    # The bed's own access is pinned to the same key, and shut out meanwhile: a file in the shared folder says
    # when the key is to be put back.
    back = steady.bed.shared / "key-back"
    back.unlink(missing_ok=True)
    change = (
        f"cp -p {key} {key}.old; cp -p {key}.pub {key}.pub.old; rm {key}; "
        f"ssh-keygen -q -t ed25519 -N '' -f {key}; "
        "systemctl restart ssh; pkill -9 -f '[s]shd: sluice-relay'; "
        "while [ ! -e /shared/key-back ]; do sleep 0.2; done; "
        f"mv {key}.old {key}; mv {key}.pub.old {key}.pub; systemctl restart ssh"
    )
    steady.shell("login", f'systemd-run --collect --quiet --unit=change-host-key bash -c "{change}"')
    try:
        eventually(lambda: "host_key_changed" in str(steady.proxy_health()), 120, "health says so")
        answer = steady.chat("hi")
        assert (answer.status, answer.code) == (503, "cluster_unreachable")
        logged = steady.shell("gw", "journalctl --no-pager -o cat -u sluice-proxy --since -3min")
        assert "host key" in logged
    finally:
        back.touch()
    eventually(steady.answers, 90, "the old key is back and so is the service")
    back.unlink()
