"""The wire between proxy and relay: framed, multiplexed, flow-controlled, and pure (no sockets, no clocks).

docs/protocol.md describes it completely; docs/contracts.md fixes the JSON that its frames carry. Proxy,
relay, front and scheduler may import it; it imports contracts and bodies.
"""
