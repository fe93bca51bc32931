"""Texts of pages and messages, and checks of labels, times and other input.

The bottom room of web: all rooms may import it; it imports none.
"""
