"""What holds for every request before a page is looked at: guards, forms, refusals, the two listeners.

Views and signin may import it; it imports settings alone.
"""
