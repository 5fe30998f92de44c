"""Whole servers under load."""
