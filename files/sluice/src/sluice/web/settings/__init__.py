"""The configuration file, and what follows from it: users' rights by their groups, and their limits.

Pure except for reading the file. All rooms of web may import it; it imports none.
"""
