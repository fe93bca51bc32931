"""The control plane on the gateway VM: sign-in, pages, keys; and the authority. Python 3.11 and newer."""
