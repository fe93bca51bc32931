"""The pages, one blueprint for each resource."""
