"""The TLS front of the loopback site: pages go to web's socket, /v1 to a stub of the proxy.

The stub keeps the outside of /v1 (docs/contracts.md): keys are asked of the real authority, which is told of
what was used. The last message chooses what happens: `slow` streams for a minute, `queue` is told its place
first, `wake` is refused twice with Retry-After, `asleep` always, `markdown` answers with marks and hostile
text, `break` ends with an error event, `length` because the answer may not be longer, `fast` has 200 tokens
per second for a minute, `empty` has no answer the first time, `silent` says nothing, `line` waits in the
queue all the time, `endless` never ends, `think` thinks apart before it answers; what begins with `say` is
said in small pieces. Settings may have `models` of their own, and `answers` in the place of these words: a
question's answer by model, "" for every other one. Beside the API there is /v1/bare, a page of one text
field, with which benchmarks compare ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}

MARKDOWN = """# A heading

Some **bold**, *emphasis*, `code` and a [link](https://example.org/) but not [this](javascript:alert(1)).

- one
- two
  - nested

1. first
2. second

| name | value |
| --- | ---: |
| a | 1 |

> quoted

```python
print("<b>not a tag</b>")
```

<script>document.title = "broken in"</script> <img src=x onerror="document.title='broken in'">
"""

BARE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>bare</title>
<textarea id="input"></textarea></html>"""

MODELS = [
    {"id": "smollm2-135m", "status": "ready", "context_length": 2048},
    {"id": "smollm2-light", "status": "sleeping", "context_length": 2048},
    {"id": "smollm2-slow", "status": "starting", "context_length": 2048, "expected_in": 95},
]


class Front:
    """The front of one site, as its settings describe it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        # Like nginx, this takes it off before it asks web.
        self._prefix = str(settings.get("prefix", ""))
        self._refusals = 0
        self._emptied = False

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get(f"{self._prefix}/v1/models", self._models)
        app.router.add_post(f"{self._prefix}/v1/chat/completions", self._chat)
        app.router.add_get(f"{self._prefix}/v1/bare", self._bare)
        app.router.add_route("*", "/{path:.*}", self._page)
        return app

    async def _bare(self, request: web.Request) -> web.Response:
        return web.Response(text=BARE, content_type="text/html")

    async def _page(self, request: web.Request) -> web.Response:
        try:
            return await self._of_web(request)
        except aiohttp.ClientConnectionError:
            return web.Response(status=502, text="web does not answer")

    async def _of_web(self, request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        headers["X-Request-Id"] = "req-" + "0" * 32
        connector = aiohttp.UnixConnector(self._settings["web_socket"])
        if not request.raw_path.startswith(f"{self._prefix}/"):
            return web.Response(status=404, text="not of this site")
        url = f"http://web{request.raw_path.removeprefix(self._prefix)}"
        body = await request.read()
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as client,
            client.request(request.method, url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            copied = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
            return web.Response(status=answer.status, body=await answer.read(), headers=CIMultiDict(copied))

    async def _principal(self, request: web.Request) -> dict[str, Any] | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        connector = aiohttp.UnixConnector(self._settings["authority_socket"])
        question = {"version": 1, "credential": hashlib.sha256(key.encode()).hexdigest()}
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.post("http://authority/v1/principal", json=question) as answer,
        ):
            found: dict[str, Any] | None = (await answer.json())["principal"]
            return found

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if await self._principal(request) is None:
            return _error(401, "invalid_api_key", "no such key")
        now = time.time()
        data = []
        for model in self._settings.get("models", MODELS):
            shown = {k: v for k, v in model.items() if k != "expected_in"}
            expected = model.get("expected_in")
            shown["expected_ready"] = now + float(str(expected)) if expected else None
            data.append({"object": "model", "created": 0, "owned_by": "stub", **shown})
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        principal = await self._principal(request)
        if principal is None:
            return _error(401, "invalid_api_key", "no such key")
        body = await request.json()
        word = str(body["messages"][-1]["content"]).strip()
        if word == "wake" and self._refusals < 2:
            self._refusals += 1
            return _error(503, "no_instance", "the model is asleep; it is being started", retry_after=2)
        if word == "asleep":
            return _error(503, "no_instance", "the model is asleep; it is being started", retry_after=95)
        if word == "empty" and not self._emptied:
            self._emptied = True
            word = ""
        scripted = self._settings.get("answers", {}).get(word, {})
        if body.get("stream"):
            answer = await _stream(request, word, body, scripted.get(body["model"], scripted.get("", "")))
        else:
            answer = _whole(body["model"], word, len(body["messages"]))
        await self._settle(principal, str(body["model"]))
        return answer

    async def _settle(self, principal: dict[str, Any], model: str) -> None:
        """Tell the authority of a request, as the proxy's spool would."""
        record = {
            "id": f"req-{secrets.token_hex(16)}",
            "time": time.time(),
            "class": principal["class"],
            **{name: principal[name] for name in ("user", "project", "key_id")},
            "model": model,
            "cluster": "stub",
            "instance": "",
            "path": "/v1/chat/completions",
            "status": 200,
            "code": "",
            "measured": True,
            "cached_tokens": 0,
            "input_tokens": 1_200,
            "output_tokens": 34,
            "wait": 0.0,
            "first_byte": 0.1,
            "duration": 0.2,
            "bytes_in": 0,
            "bytes_out": 0,
        }
        connector = aiohttp.UnixConnector(self._settings["authority_socket"])
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.post("http://authority/v1/usage", json={"version": 1, "records": [record]}) as answer,
        ):
            answer.raise_for_status()


async def _stream(
    request: web.Request, word: str, body: dict[str, Any], scripted: str = ""
) -> web.StreamResponse:
    count = len(body["messages"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    if word in ("queue", "line"):
        await response.write(b": queued position=2 expected=120s\n")
        await asyncio.sleep(2.0 if word == "queue" else 600.0)
    if word == "silent":
        await asyncio.sleep(600.0)
    while word == "endless":
        chunk = {"choices": [{"index": 0, "delta": {"content": "for ever and ever\n" * 1_000}}]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        # A write to a connection that is gone does not wait: nobody else would ever run, not even its end.
        await asyncio.sleep(0)
    if word == "think":
        for thought in ("First, ", "I look ", "at **this**."):
            await _send(response, reasoning_content=thought)
            await asyncio.sleep(0.5)
    pieces, pause = (_tokens(scripted), 0.005) if scripted else _answer(word, count)
    for piece in pieces:
        await _send(response, content=piece)
        await asyncio.sleep(pause)
    if word == "break":
        error = {"error": {"message": "gone", "code": "instance_failed", "request_id": "req-" + "1" * 32}}
        await response.write(f"data: {json.dumps(error)}\n\n".encode())
        return response
    reason = "length" if word == "length" else "stop"
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    await response.write(f"data: {json.dumps(end)}\n\n".encode())
    if body.get("stream_options", {}).get("include_usage"):
        used = {"prompt_tokens": 100 * count, "completion_tokens": len(pieces)}
        await response.write(f"data: {json.dumps({'choices': [], 'usage': used})}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def _whole(model: str, word: str, count: int) -> web.StreamResponse:
    message = {"role": "assistant", "content": "".join(_answer(word, count)[0])}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model}
    return web.json_response({**answer, "choices": [choice]})


async def _send(response: web.StreamResponse, **delta: str) -> None:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


def _tokens(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _answer(word: str, count: int) -> tuple[list[str], float]:
    if not word:
        return [], 0.1
    if word.startswith("say "):
        text = word.removeprefix("say ")
        return [text[at : at + 3] for at in range(0, len(text), 3)], 0.02
    if word == "slow":
        return [f"word{n} " for n in range(600)], 0.1
    if word == "fast":
        return [f"token{n} " for n in range(12_000)], 0.005
    if word == "markdown":
        return [MARKDOWN[at : at + 7] for at in range(0, len(MARKDOWN), 7)], 0.005
    if "France" in word:
        return ["The capital", " of France", " is Paris."], 0.1
    return [f"You said {word!r}", f" in message {count}."], 0.05


def _error(status: int, code: str, message: str, retry_after: int | None = None) -> web.Response:
    error = {
        "message": message,
        "type": "server_error",
        "param": None,
        "code": code,
        "request_id": "req-" + "2" * 32,
    }
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return web.json_response({"error": error}, status=status, headers=headers)


async def serve(settings: dict[str, Any]) -> None:
    """Serve until told to end: with TLS on a port, and without on a unix socket, for an nginx in front."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings["certificate"], settings["key"])
    runner = web.AppRunner(Front(settings).app(), handle_signals=True)
    await runner.setup()
    try:
        await web.UnixSite(runner, settings["socket"]).start()
        await web.TCPSite(runner, settings["address"], settings["port"], ssl_context=context).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(web.GracefulExit):
        asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
