"""The OpenAI API: handles each request from first to last byte; formats of answers; OpenAPI description.

The top room of the proxy: `service` alone imports it; it may import every other room.
"""
