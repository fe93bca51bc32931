"""Public programs that use the API, unchanged, and what they are asked to do."""
