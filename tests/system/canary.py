"""Words that occur nowhere else, in every form in which a program may keep them, and the search for them."""

from __future__ import annotations

import base64
import json
import secrets
import struct
import time
from collections.abc import Iterable

from tests.system.service import MODEL, Service

STEM = "canary"
# So many of a word's first tokens are in the forms: more than any other text shares.
TOKENS = 6

# Runs on a host, with the time and the forms on standard input: in an argument it would find itself. It looks
# at every file that changed since the first word was sent (by its ctime, which nobody can set back; /dev/shm
# too), at the journal (whose blocks are compressed), and at all arguments and environments. `stems` are what
# the words of a form have in common: only where one is found are the words themselves looked for.
SEARCH = r"""
import json, os, stat, subprocess, sys
given = json.load(sys.stdin)
since = given["since"]
stems = [bytes.fromhex(one) for one in given["stems"]]
words = [bytes.fromhex(one) for one in given["words"]]
PIECE, OVERLAP = 8 << 20, 4096

def found_in(stream):
    kept = b""
    while True:
        piece = stream.read(PIECE)
        if not piece:
            return False
        data = kept + piece
        if any(stem in data for stem in stems) and any(word in data for word in words):
            return True
        kept = data[-OVERLAP:]

def report(kind, name):
    print(f"{kind}: {name}"[:200])

def look(path):
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_ctime < since:
            return
        with open(path, "rb", buffering=0) as stream:
            if found_in(stream):
                report("file", path)
    except OSError:
        return
    name = os.path.basename(path)
    if (name == "core" or name.startswith("core.")) and status.st_size > 1 << 20:
        report("core", path)

for place, folders, names in os.walk("/"):
    if place == "/":
        folders[:] = [one for one in folders if one not in ("proc", "sys")]
    for name in names:
        look(os.path.join(place, name))
journal = ["journalctl", "--no-pager", "-o", "export", "--since", f"@{since}"]
with subprocess.Popen(journal, stdout=subprocess.PIPE) as reader:
    if found_in(reader.stdout):
        report("journal", "")
for process in os.listdir("/proc"):
    if not process.isdigit() or process == str(os.getpid()):
        continue
    for kind in ("cmdline", "environ"):
        try:
            with open(f"/proc/{process}/{kind}", "rb") as stream:
                if found_in(stream):
                    report("process", open(f"/proc/{process}/cmdline", "rb").read().replace(b"\0", b" "))
        except OSError:
            continue
"""


class Words(list[str]):
    """The words that were sent, the time (epoch) before the first, and some of them as token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.since = int(time.time()) - 1
        self.tokens: list[list[int]] = []

    def new(self) -> str:
        """Return a word that occurs nowhere else."""
        self.append(STEM + secrets.token_hex(8))
        return self[-1]

    def learn_tokens(self, service: Service, word: str) -> None:
        """Ask the engine for a word's token ids, as they stand in a text behind a blank."""
        body = {"model": MODEL, "prompt": f" {word}", "max_tokens": 1, "return_token_ids": True}
        answer = service.request("POST", "/v1/completions", body)
        assert answer.status == 200, answer.body
        ids = answer.json()["choices"][0]["prompt_token_ids"]
        assert len(ids) >= TOKENS, ids
        self.tokens.append([int(one) for one in ids])

    def found_on(self, service: Service, host: str) -> str:
        """Return what the search says on one host: nothing, or a line for each place."""
        forms = [form for word in self for form in forms_of(word)]
        forms += [form for ids in self.tokens for form in forms_of_tokens(ids)]
        stems = list(forms_of(STEM))
        stems += [form for ids in self.tokens for form in forms_of_tokens(ids[:3])]
        asked = {"since": self.since, "stems": _hex(stems), "words": _hex(forms)}
        argv = ["python3", "-c", SEARCH]
        return service.bed.run(host, argv, stdin=json.dumps(asked), timeout=900, check=True).stdout


def _hex(forms: Iterable[bytes]) -> list[str]:
    return sorted({form.hex() for form in forms})


def forms_of(word: str) -> Iterable[bytes]:
    """Return a word as programs write it: in three encodings, in hex, and in base64 wherever it begins."""
    raw = word.encode()
    yield raw
    yield word.encode("utf-16-le")
    yield word.encode("utf-16-be")
    yield raw.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        # Only the characters that are made of the word's bits alone.
        yield encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]


def forms_of_tokens(ids: list[int]) -> Iterable[bytes]:
    """Return the first token ids of a word as programs write them: as text, as numbers, pickled, packed.

    They are below 65,536, as those of the bed's model are.
    """
    some = ids[:TOKENS]
    for between in (", ", ",", " "):
        yield between.join(map(str, some)).encode()
    for size in "Hiq":
        yield struct.pack(f"<{len(some)}{size}", *some)
    yield b"".join(pickled(one) for one in some)
    yield b"".join(packed(one) for one in some)


def pickled(number: int) -> bytes:
    """Return a number as pickle writes it, in a list of numbers one behind the other."""
    return b"K" + bytes([number]) if number < 256 else b"M" + number.to_bytes(2, "little")


def packed(number: int) -> bytes:
    """Return a number as msgpack writes it."""
    if number < 128:
        return bytes([number])
    return b"\xcc" + bytes([number]) if number < 256 else b"\xcd" + number.to_bytes(2, "big")
