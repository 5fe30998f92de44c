"""The mailbox of a session, the queues of ready sessions, and the loop that runs their turns."""

from ._turn import CallPlan as CallPlan
from ._turn import Message as Message
from ._turn import Turn as Turn
from ._turn import current_turn as current_turn
