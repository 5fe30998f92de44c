"""How many objects of each compiled class live: for tests, in a build that counts."""

COUNTING: bool

def start() -> None:
    """Count every compiled class that is imported, and its subclasses, from now on.

    Again: also what was imported since. Raises RuntimeError in a build that cannot count.
    """

def live() -> dict[str, int]:
    """How many objects there are of each class, of those made since the start; zeros left out."""
