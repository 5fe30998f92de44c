from typing import final

__all__ = ["Frame"]

@final
class Frame: ...
