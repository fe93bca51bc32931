"""The status listener on loopback: metrics for Prometheus, health for people and probes."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from sluice.contracts.fields import VERSION
from sluice.proxy.accounts.authority import AuthorityClient
from sluice.proxy.accounts.usage import UsageQueue
from sluice.proxy.clusters.cluster import Cluster, Fleet
from sluice.proxy.clusters.keeper import SessionKeeper
from sluice.proxy.http.dialect import dump
from sluice.proxy.metrics import Metrics
from sluice.version import version

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Status:
    """Answers `GET /metrics` and `GET /health`."""

    def __init__(self, fleet: Fleet, authority: AuthorityClient, usage: UsageQueue, metrics: Metrics) -> None:
        self._fleet = fleet
        self._authority = authority
        self._usage = usage
        self._metrics = metrics

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request on the status port."""
        if request.method != "GET":
            return web.Response(status=405, headers={"Allow": "GET"})
        if request.path == "/metrics":
            self._metrics.usage_waiting.set(len(self._usage))
            return web.Response(body=self._metrics.render(), headers={"Content-Type": PROMETHEUS})
        if request.path == "/health":
            return web.Response(body=dump(await self.health()), content_type="application/json")
        return web.Response(status=404)

    async def health(self) -> dict[str, Any]:
        """Return the health document; `status` is `ok` if every session and the authority are up."""
        reachable = await self._authority.healthy()
        clusters = [_cluster(cluster) for cluster in self._fleet.clusters]
        sound = reachable and all(keeper.state == "up" for keeper in self._fleet.keepers)
        return {
            "version": VERSION,
            "status": "ok" if sound else "degraded",
            "software": version(),
            "authority": {"reachable": reachable},
            "usage_waiting": len(self._usage),
            "clusters": clusters,
        }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "sessions": [_session(keeper) for keeper in cluster.keepers],
        "models": {
            name: {"status": model.status, "ready": model.ready}
            for name, model in sorted(cluster.models.items())
        },
    }


def _session(keeper: SessionKeeper) -> dict[str, Any]:
    return {
        "host": keeper.config.host,
        "port": keeper.config.port,
        "state": keeper.state,
        "detail": keeper.detail,
        "seconds": round(time.monotonic() - keeper.since, 1),
        "streams": keeper.open_streams,
    }
