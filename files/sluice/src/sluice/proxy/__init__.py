"""The data plane: the OpenAI API on one side, SSH sessions with relays on the other. Python 3.11 or newer.

Rooms from the top: api, requests, queue, clusters, accounts, bodies, http. No other part imports them.
"""
