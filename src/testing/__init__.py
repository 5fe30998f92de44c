"""What the tests of an application need, and what our own tests use."""

from .clock import ManualClock as ManualClock
from .conformance import adapter_conformance as adapter_conformance
from .conservation import assert_conserved as assert_conserved

__all__ = ["ManualClock", "adapter_conformance", "assert_conserved"]
