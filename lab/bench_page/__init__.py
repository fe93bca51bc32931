"""What the chat page costs its readers: bytes, time, processor, memory.

Run as `python -m lab.bench_page`. Nothing imports it.
"""
