"""What the tests of an application need, and what our own tests use."""

from .clock import ManualClock as ManualClock
from .conformance import adapter_conformance as adapter_conformance

__all__ = ["ManualClock", "adapter_conformance"]
