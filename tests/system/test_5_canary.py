"""No prompt and no answer is ever stored: a word that occurs nowhere else is looked for everywhere."""

from __future__ import annotations

import contextlib
import secrets
import threading

import pytest

from tests.system.service import LIGHT, MODEL, Answer, Service

HOSTS = ("gw", "login", "c1", "c2", "idp")
SIZES = {"50 B": 50, "200 KB": 200_000, "5 MB": 5_000_000}

# Files (tmpfs ones too), what the journal holds inside its compressed blocks, arguments and environment.
# The word reaches the host on standard input, not in an argument: else the search would find itself.
SEARCH = r"""
read -r word
found=$(grep -rlF --binary-files=text -f <(printf '%s\n' "$word") / \
    --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev 2>/dev/null | grep -v '^/dev/fd' || true)
[ -z "$found" ] || echo "files: $found"
grep -rlF --binary-files=text -f <(printf '%s\n' "$word") /dev/shm 2>/dev/null && echo 'in /dev/shm'
journalctl --no-pager -o export 2>/dev/null | grep -qaF -f <(printf '%s\n' "$word") && echo 'in the journal'
for process in /proc/[0-9]*; do
    [ "$process" = "/proc/$$" ] || [ "$process" = "/proc/$BASHPID" ] && continue
    cat "$process/cmdline" "$process/environ" 2>/dev/null | grep -qaF -f <(printf '%s\n' "$word") &&
        echo "in $process: $(tr '\0' ' ' <"$process/cmdline" | cut -c1-120)"
done
find / -xdev \( -name 'core' -o -name 'core.*' \) -type f -size +1M 2>/dev/null
exit 0
"""


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Every canary word that this module sent."""
    return []


def word(words: list[str]) -> str:
    """Return a new canary word, and remember it."""
    words.append("canary" + secrets.token_hex(8))
    return words[-1]


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
def test_success(service: Service, words: list[str], size: str) -> None:
    canary = word(words)
    answer = service.request("POST", "/v1/completions", padded(canary, SIZES[size]))
    assert answer.status == 200, answer.body[:300]
    assert canary in answer.json()["choices"][0]["text"]


@pytest.mark.parametrize("size", SIZES)
def test_refusal_by_the_engine(service: Service, words: list[str], size: str) -> None:
    """Too long for the model's context, or (short) a parameter that the engine refuses."""
    answer = service.chat(filled(word(words), SIZES[size]), max_tokens=100_000)
    assert 400 <= answer.status < 500, answer.body[:300]


@pytest.mark.parametrize("size", SIZES)
def test_abort(service: Service, words: list[str], size: str) -> None:
    body = padded(word(words), SIZES[size]).replace(b'"max_tokens": 24', b'"max_tokens": 900, "stream": true')
    with contextlib.suppress(TimeoutError, OSError):
        service.request("POST", "/v1/completions", body, timeout=1.0)


def test_refusal_by_the_proxy(service: Service, words: list[str]) -> None:
    canary = word(words)
    for body in (
        b'{"model": "%s", %s' % (MODEL.encode(), canary.encode()),
        {"model": canary, "messages": [canary]},
    ):
        assert service.request("POST", "/v1/chat/completions", body).status in (400, 404)
    assert service.request("POST", f"/v1/{canary}", {}).status == 404
    assert service.request("GET", "/v1/models", key=canary).status == 401


@pytest.mark.parametrize("size", SIZES)
def test_the_light_engine(service: Service, words: list[str], size: str) -> None:
    """Both engines are templates; both must keep silent."""
    client = service.openai().with_options(max_retries=30)
    client.chat.completions.create(model=LIGHT, messages=[{"role": "user", "content": "hi"}], max_tokens=2)
    answer = service.chat(filled(word(words), SIZES[size]), LIGHT)
    assert answer.status < 500 or answer.status in (502, 503), answer.body[:300]


def test_an_engine_that_is_killed_while_it_answers(service: Service, words: list[str]) -> None:
    canary = word(words)
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
def test_no_word_is_found_anywhere(service: Service, words: list[str], host: str) -> None:
    assert len(words) >= 10
    # One pattern for all: every word begins with "canary" and 16 hex digits; look for each of them.
    found = ""
    for canary in words:
        done = service.bed.run(host, ["bash", "-c", SEARCH], stdin=canary + "\n", timeout=300)
        found += done.stdout
    assert found == ""


def test_the_search_finds_what_is_there(service: Service) -> None:
    """A search that cannot find proves nothing."""
    canary = "canary" + secrets.token_hex(8)
    service.bed.run(
        "login",
        ["bash", "-c", "read -r w; echo $w >/var/tmp/x; echo $w | systemd-cat; echo $w >/run/x; "
         "(export W=$w; setsid sleep 60 >/dev/null 2>&1 </dev/null &)"],
        stdin=canary + "\n",
    )  # fmt: skip
    done = service.bed.run("login", ["bash", "-c", SEARCH], stdin=canary + "\n", timeout=300)
    service.shell("login", "rm /var/tmp/x /run/x")
    for place in ("/var/tmp/x", "/run/x", "in the journal", "in /proc/"):
        assert place in done.stdout, place
