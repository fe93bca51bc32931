"""What the authority says about all requests at this gateway, mainly which models are stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container

from sluice.contracts.authority import GatewayState
from sluice.errors import SluiceError
from sluice.proxy.accounts.authority import AuthorityClient, AuthorityUnreachable

log = logging.getLogger("sluice.proxy.accounts.stops")

STOPPED = "stopped"


class Stops:
    """Asks every `interval` seconds; while the authority cannot be reached, the last answer applies."""

    def __init__(self, client: AuthorityClient, interval: float) -> None:
        self._client = client
        self._interval = interval
        self._stopped: dict[str, str] = {}
        self.gateway_state = GatewayState()
        self._asking: asyncio.Task[None] | None = None
        self.known = False

    async def run(self) -> None:
        """Ask at each interval, until cancelled."""
        while True:
            await self._ask()
            await asyncio.sleep(self._interval)

    async def ask_first(self) -> None:
        """Ask once, with or without success; callers during that time share the question.

        For requests that come while nothing is known yet.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            gateway_state = await self._client.gateway()
        except AuthorityUnreachable:
            return
        found = {stop.model: stop.message for stop in gateway_state.stopped}
        if found.keys() != self._stopped.keys():
            log.info("models stopped at this gateway", extra={"models": ", ".join(sorted(found))})
        self._stopped, self.gateway_state = found, gateway_state
        self.known = True

    @property
    def models(self) -> Container[str]:
        """The names of the models that are stopped."""
        return self._stopped.keys()

    def check(self, model: str) -> None:
        """Raise SluiceError `model_stopped` with the administrator's message if the model is stopped."""
        message = self._stopped.get(model)
        if message is not None:
            raise SluiceError(
                "model_stopped",
                f"An administrator has stopped this model: {message}"
                if message
                else "An administrator has stopped this model.",
                param="model",
            )
