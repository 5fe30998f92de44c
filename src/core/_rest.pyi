"""What a state differs in from its template. Compiled; nothing for Python."""

from typing import Any, final

__pyx_capi__: dict[str, Any]

@final
class Below:
    """A nested state that differs from the template's, or that the template does not have."""
