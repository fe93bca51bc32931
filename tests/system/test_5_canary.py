"""No prompt and no answer is ever stored: a word that occurs nowhere else is looked for everywhere."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time

import pytest

from tests.system.service import LIGHT, MODEL, Answer, Service

HOSTS = ("gw", "login", "c1", "c2", "idp")
SIZES = {"50 B": 50, "200 KB": 200_000, "5 MB": 5_000_000}

# Looks at every file that changed since the first word was sent (by its ctime, which nobody can set back), at
# the journal (whose blocks are compressed: grep alone would miss it), and at all arguments and environments.
# Time and words come on standard input: in an argument the search would find itself.
SEARCH = r"""
read -r since
patterns=$(cat)
[ -n "$patterns" ] || { echo 'nothing to look for'; exit 0; }
find / \( -path /proc -o -path /sys \) -prune -o -type f -newerct "@$since" -print0 2>/dev/null |
    xargs -0 -r grep -laF -f <(printf '%s\n' "$patterns") -- 2>/dev/null | sed 's/^/file: /'
journalctl --no-pager -o export --since "@$since" | grep -qaF -f <(printf '%s\n' "$patterns") &&
    echo 'in the journal'
for process in /proc/[0-9]*; do
    [ "$process" = "/proc/$$" ] || [ "$process" = "/proc/$BASHPID" ] && continue
    cat "$process/cmdline" "$process/environ" 2>/dev/null | grep -qaF -f <(printf '%s\n' "$patterns") &&
        echo "process: $(tr '\0' ' ' <"$process/cmdline" | cut -c1-120)"
done
find / -xdev \( -name 'core' -o -name 'core.*' \) -type f -size +1M -newerct "@$since" 2>/dev/null |
    sed 's/^/core: /'
exit 0
"""


class Words(list[str]):
    """The canary words that were sent, and the time (epoch) before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.since = int(time.time()) - 1

    def new(self) -> str:
        """Return a word that occurs nowhere else."""
        self.append("canary" + secrets.token_hex(8))
        return self[-1]

    def found_on(self, service: Service, host: str) -> str:
        """Return what the search says on one host: nothing, or a line for each place."""
        given = "\n".join([str(self.since), *self, ""])
        return service.bed.run(host, ["bash", "-c", SEARCH], stdin=given, timeout=300, check=True).stdout


@pytest.fixture(scope="module")
def words() -> Words:
    """Every canary word that this module sent."""
    return Words()


def filled(text: str, size: int) -> str:
    """Return `text` repeated to about `size` characters."""
    return (text + " ") * max(1, size // (len(text) + 1))


def padded(canary: str, size: int) -> bytes:
    """Return a valid body of `size` bytes: a short question, and a long field that means nothing."""
    head = b'{"model": "%s", "max_tokens": 24, "echo": true, "prompt": "Say %s twice: %s", "user": "' % (
        MODEL.encode(), canary.encode(), canary.encode(),
    )  # fmt: skip
    return head + filled(canary, max(0, size - len(head))).encode() + b'"}'


@pytest.mark.parametrize("size", SIZES)
def test_success(service: Service, words: Words, size: str) -> None:
    canary = words.new()
    answer = service.request("POST", "/v1/completions", padded(canary, SIZES[size]))
    assert answer.status == 200, answer.body[:300]
    assert canary in answer.json()["choices"][0]["text"]


@pytest.mark.parametrize("size", SIZES)
def test_refusal_by_the_engine(service: Service, words: Words, size: str) -> None:
    """Too long for the model's context, or (short) a parameter that the engine refuses."""
    answer = service.chat(filled(words.new(), SIZES[size]), max_tokens=100_000)
    assert 400 <= answer.status < 500, answer.body[:300]


@pytest.mark.parametrize("size", SIZES)
def test_abort(service: Service, words: Words, size: str) -> None:
    body = padded(words.new(), SIZES[size]).replace(b'"max_tokens": 24', b'"max_tokens": 900, "stream": true')
    with contextlib.suppress(TimeoutError, OSError):
        service.request("POST", "/v1/completions", body, timeout=1.0)


def test_refusal_by_the_proxy(service: Service, words: Words) -> None:
    canary = words.new()
    for body in (
        b'{"model": "%s", %s' % (MODEL.encode(), canary.encode()),
        {"model": canary, "messages": [canary]},
    ):
        assert service.request("POST", "/v1/chat/completions", body).status in (400, 404)
    assert service.request("POST", f"/v1/{canary}", {}).status == 404
    assert service.request("GET", "/v1/models", key=canary).status == 401


@pytest.mark.parametrize("size", SIZES)
def test_the_light_engine(service: Service, words: Words, size: str) -> None:
    """Both engines are templates; both must keep silent."""
    with service.openai(max_retries=30) as client:
        client.chat.completions.create(
            model=LIGHT, messages=[{"role": "user", "content": "hi"}], max_tokens=2
        )
    answer = service.chat(filled(words.new(), SIZES[size]), LIGHT)
    assert answer.status < 500 or answer.status in (502, 503), answer.body[:300]


def test_an_engine_that_is_killed_while_it_answers(service: Service, words: Words) -> None:
    canary = words.new()
    results: list[Answer] = []

    def ask() -> None:
        results.append(service.chat(f"Write a long story about {canary}.", max_tokens=900, ignore_eos=True))

    thread = threading.Thread(target=ask)
    thread.start()
    node = service.node_of_job(service.live_jobs()[0])
    service.shell(node, "sleep 2; kill -SEGV $(pgrep -f '[v]llm serve' | head -1)")
    thread.join(120)
    assert results, "the request hangs"
    assert results[0].status in (200, 502, 503), results[0].body[:300]
    service.wait_answering(240)


@pytest.mark.parametrize("host", HOSTS)
def test_no_word_is_found_anywhere(service: Service, words: Words, host: str) -> None:
    assert len(words) >= 10
    assert words.found_on(service, host) == ""


def test_the_search_finds_what_is_there(service: Service) -> None:
    """A search that cannot find proves nothing."""
    own = Words()
    plant = (
        "read -r w; echo $w >/var/tmp/x; echo $w >/run/x; echo $w | systemd-cat; "
        "(export W=$w; setsid sleep 60 >/dev/null 2>&1 </dev/null &)"
    )
    service.bed.run("login", ["bash", "-c", plant], stdin=own.new() + "\n", check=True)
    found = own.found_on(service, "login")
    service.shell("login", "rm /var/tmp/x /run/x")
    for place in ("file: /var/tmp/x", "file: /run/x", "in the journal", "process: sleep 60"):
        assert place in found, place
