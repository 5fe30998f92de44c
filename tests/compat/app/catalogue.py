"""Handlers that main.py registers and imports."""


def find(state, payload):
    state["found"] = [item for item in ("chair", "table", "lamp") if payload in item]
    return len(state["found"])
