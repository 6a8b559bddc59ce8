"""Judging numbers: metrics, rewrites one by one, whole programs pass by pass."""
