"""The revisions. One that was released never changes; docs/database.md has the rules."""
