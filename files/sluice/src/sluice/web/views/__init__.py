"""The pages, one blueprint for each resource, and what they share.

A top room of web: only the app imports it. It may import all rooms except commands.
"""
