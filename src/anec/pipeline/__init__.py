"""Passes, pipelines as text, the manager that runs them, and the instruments that watch."""
