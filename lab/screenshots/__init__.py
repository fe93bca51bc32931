"""Pictures of the pages as a site's people see them, by language, light and dark, on a desk and a phone.

Run as `python -m lab.screenshots`. Nothing imports it.
"""
