"""The cheap strong baselines of each field, one module a task."""
