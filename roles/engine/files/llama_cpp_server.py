#!/usr/bin/env python3
"""Serve one GGUF model over the OpenAI protocol on a unix socket, with llama.cpp in this process.

Runs in the environment of the engine `llama-cpp` (package xllamacpp). llama.cpp takes a host name
that ends in `.sock` for the path of a unix socket. Pages, slots, changes of properties, tools, adapters and
saved prompts stay off.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_LINE = "sluice: llama.cpp is ready"
# llama.cpp's levels: 1 errors, 2 warnings, 3 information. Information names every request.
ERRORS_ONLY = 1
SOCKET_ENDING = ".sock"
SOCKET_LONGEST = 107
PREFILL_BATCH = 512
# Slurm sends TERM to all processes of a job that it takes back: what runs may come to its end, within the
# time that Slurm commonly gives a job.
LONGEST_END = 15.0
LOOK_EVERY = 0.1
BUSY = re.compile(rb"^llamacpp:requests_(?:processing|deferred) [1-9]", re.MULTILINE)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with status 2 and a message where a value is wrong."""
    parser = argparse.ArgumentParser(description="Serve one GGUF model on a unix socket.")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name in requests and answers")
    parser.add_argument("--socket", required=True, help=f"unix socket to listen on; ends in {SOCKET_ENDING}")
    parser.add_argument("--context", type=int, required=True, help="tokens of context of one request")
    parser.add_argument("--slots", type=int, default=4, help="requests at once (default: 4)")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute (default: 1)")
    parser.add_argument("--gpu-layers", type=int, default=0, help="layers on the GPU (default: 0; -1: all)")
    parser.add_argument("--prompt-cache", type=int, default=0, help="MiB of cached prompts (default: 0)")
    parser.add_argument("--chat-template", default="", help="built-in one by name (default: the model's own)")
    options = parser.parse_args(given)
    if not options.model.is_file():
        parser.error(f"--model {options.model}: no such file")
    if not options.socket.endswith(SOCKET_ENDING) or len(options.socket.encode()) > SOCKET_LONGEST:
        parser.error(f"--socket must end in {SOCKET_ENDING} and have at most {SOCKET_LONGEST} bytes")
    for name in ("context", "slots", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def apply(options: argparse.Namespace, params: Any) -> None:
    """Set llama.cpp's parameters (an `xllamacpp.CommonParams`) from the command line, all else shut."""
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    params.hostnames = [options.socket]
    params.port = 0
    # llama.cpp divides its context among the slots.
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.n_batch = PREFILL_BATCH
    params.n_ubatch = PREFILL_BATCH
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = options.gpu_layers
    params.cache_ram_mib = options.prompt_cache
    params.chat_template = options.chat_template
    params.endpoint_metrics = True
    params.endpoint_slots = False
    params.endpoint_props = False
    params.ui = False
    params.lora_adapters = []
    params.slot_save_path = ""
    params.offline = True
    params.verbosity = ERRORS_ONLY


def busy(path: str) -> bool:
    """Whether requests run or wait, by the server's own metrics; one that does not answer runs none."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(path)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            while piece := connection.recv(65_536):
                answer += piece
    except OSError:
        return False
    return BUSY.search(answer) is not None


def wait_until_idle(path: str, seconds: float) -> None:
    """Return when nothing runs any more, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and busy(path):
        time.sleep(LOOK_EVERY)


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Serve until TERM or INT arrives and what runs has come to its end, then end with status 0."""
    options = arguments(given)
    # Blocked before llama.cpp starts its threads, so that they inherit it and sigwait below gets the signal.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    import xllamacpp  # type: ignore[import-not-found]  # only the engine's environment has it

    params = xllamacpp.CommonParams()
    apply(options, params)
    _server = xllamacpp.Server(params)
    print(READY_LINE, flush=True)
    signal.sigwait(ends)
    wait_until_idle(options.socket, LONGEST_END)
    # An ordinary end would wait for the streams that still run, however long they are.
    os._exit(0)


if __name__ == "__main__":
    main()
