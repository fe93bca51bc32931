"""Tests of the scheduler, one module per module."""
