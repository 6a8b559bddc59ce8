"""Tests here register passes, which are forgotten afterwards."""

from registry_fixture import fresh_registry

__all__ = ["fresh_registry"]
