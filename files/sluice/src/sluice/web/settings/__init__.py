"""What the inventory says, and what it gives a person: the file, rights by group, limits by rule.

Pure but for reading that file. Every room of web may import it; it imports none.
"""
