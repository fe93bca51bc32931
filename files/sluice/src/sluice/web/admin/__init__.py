"""What administrators do to the gateway as a whole, announcements and stops, and the log of all they do.

Everything above may import it; it imports database and words.
"""
