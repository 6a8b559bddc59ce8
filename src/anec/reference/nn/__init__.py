"""Kernels of the `nn` dialect, a family a file."""
