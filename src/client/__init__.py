"""The JavaScript client and its Python sibling."""
