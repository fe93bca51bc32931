"""One request while it is answered: what is known of it, its limits, its way to an instance and back.

Below `api`, which alone imports it (with `service`); above queue, clusters, accounts and bodies.
"""
