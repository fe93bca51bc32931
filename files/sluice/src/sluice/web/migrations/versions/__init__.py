"""The revisions. One that was released never changes; docs/operations/database.md has the rules."""
