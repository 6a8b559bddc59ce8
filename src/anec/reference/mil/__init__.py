"""Kernels of the `mil` dialect, a family a file."""
