"""`sluice keys | users | usage | db | limits | admission | announcements | audit` on the gateway VM.

A top room of web: only the command line imports it. It may import all rooms except views and signin.
"""
