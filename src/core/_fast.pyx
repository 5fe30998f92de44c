# cython: language_level=3
"""The mailbox of a session, the queues of ready sessions, and the loop that runs their turns."""

from ._turn import CallPlan, Message, Turn, current_turn
