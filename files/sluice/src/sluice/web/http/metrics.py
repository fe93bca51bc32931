"""Metrics for Prometheus, and the separation of the two listeners.

Each app runs as one gunicorn worker with threads, so one registry in memory has all metrics. With several
workers, each scrape would see only one worker's.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, make_wsgi_app
from prometheus_client import Gauge as PrometheusGauge

from sluice.version import version

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


# Methods that may become a label. Clients can invent others, and each would become a new time series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metrics of one app; `component` is `web` or `authority`."""

    def __init__(self, component: str) -> None:
        self.registry = CollectorRegistry()
        self.component = component
        ProcessCollector(registry=self.registry)
        self._requests = self.counter("requests", "Answered requests.", ("endpoint", "method", "status"))
        self._seconds = Histogram(
            f"sluice_{component}_request_seconds",
            "Time to answer.",
            ("endpoint",),
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
        )
        build = PrometheusGauge(
            f"sluice_{component}_build_info", "The version that runs.", ("version",), registry=self.registry
        )
        build.labels(version()).set(1)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """Return a new counter `sluice_<component>_<name>_total`."""
        return Counter(f"sluice_{self.component}_{name}", text, labels, registry=self.registry)

    def instrument(self, app: Flask) -> None:
        """Count and time every request of `app`, by endpoint: clients can invent paths."""

        @app.before_request
        def start() -> None:
            g.started = time.monotonic()

        @app.after_request
        def finish(response: Response) -> Response:
            endpoint = request.endpoint or "none"
            method = request.method if request.method in _METHODS else "other"
            self._requests.labels(endpoint, method, str(response.status_code)).inc()
            self._seconds.labels(endpoint).observe(time.monotonic() - g.get("started", time.monotonic()))
            return response


class Listeners:
    """WSGI middleware: serves the app on the unix socket, and only /metrics on the loopback port.

    Any account on the machine can connect to a loopback port, so the app itself must not answer there.
    """

    def __init__(self, app: WSGIApplication, registry: CollectorRegistry) -> None:
        self._app = app
        self._metrics: WSGIApplication = make_wsgi_app(registry)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        connection = environ.get("gunicorn.socket")
        if connection is None or connection.family == socket.AF_UNIX:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO") == "/metrics" and environ.get("REQUEST_METHOD") == "GET":
            return self._metrics(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
