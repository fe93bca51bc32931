"""Sluice's pages in a real browser."""
