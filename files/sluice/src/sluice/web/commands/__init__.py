"""`sluice keys | users | usage | db | limits | admission | announcements | audit` on the gateway VM.

A top room of web: the command line alone imports it; it may import every room but views and signin.
"""
