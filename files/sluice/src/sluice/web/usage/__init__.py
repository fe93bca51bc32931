"""What was used: settled once, summed, drawn, exported, and forgotten in time.

Limits, views, commands and the authority may import it; it imports keys, admin, database and settings.
"""
