"""The pages, one blueprint for each resource, and what they share.

A top room of web: the app alone imports it; it may import every room but commands.
"""
