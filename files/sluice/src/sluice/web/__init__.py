"""The control plane on the gateway VM: sign-in, pages, keys, and the authority. Python 3.11 and newer.

Rooms from the top: commands and views, signin, limits, usage, keys, people, admin, database, http, settings,
words. No other part imports any of it.
"""
