"""What to do next, and why: pure functions over models, instances, demand and a clock that is handed in.

It imports `scheduler.instances` alone and knows no socket, clock, process or file.
"""
