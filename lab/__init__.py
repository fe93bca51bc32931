"""Tools that measure and picture Sluice, and no tests: bench, simulate, soak, rooms.

They may import everything; of the tests they use the fakes and stands. Tests of them: tests/unit/lab/.
"""
