"""The wire between proxy and relay: framed, multiplexed, flow-controlled, and pure (no sockets, no clocks).

docs/protocol.md describes it completely; docs/contracts.md defines the JSON in its frames. Proxy, relay,
front and scheduler may import it; it imports contracts and bodies.
"""
