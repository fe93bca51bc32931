"""How people's words and times are read and written: texts, names, days, and what cannot be done.

The bottom room of web: every room may import it; it imports none.
"""
