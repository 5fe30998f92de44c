"""Handlers in a file of their own, which registers those of a third."""

import returns
import writer as wf

wf.init_handlers(returns)


def place(state):
    state["order"] = {"items": state["basket"]["lines"], "status": "placed"}


def _secret(state):
    state["order"] = "stolen"
