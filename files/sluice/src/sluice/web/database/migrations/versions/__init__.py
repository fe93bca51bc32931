"""The revisions. A released revision never changes; docs/database.md has the rules."""
