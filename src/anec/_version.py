"""The version, where setuptools can read it without importing the package."""

VERSION = "0.1.0"
