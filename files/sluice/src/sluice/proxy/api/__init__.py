"""The OpenAI API: one request from its first byte to its last, the shapes of answers, the description.

The top room of the proxy: `service` alone imports it; it may import every other room.
"""
