"""The commands behind `greenroom`, one module each."""
