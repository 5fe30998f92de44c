"""Greenroom: live server-side sessions you can embed in any Python program."""

__version__ = "0.1.0"

__all__ = ["__version__"]
