"""Administration of the whole gateway: stopped models, announcements, and the audit log.

All higher rooms may import it; it imports database and words.
"""
