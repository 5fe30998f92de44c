"""Measurements of Greenroom, each a ratio to something simple in the same run. See README.md."""
