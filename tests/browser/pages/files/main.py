"""What the browser test of files serves."""

import hashlib

import greenroom as gr

gr.init_state({"files": [], "digest": ""})
_last: dict[str, gr.File] = {}


def take(state, session, payload: list[gr.File]):
    state["files"] = [f"{file.name} {file.mime} {file.size}" for file in payload]
    state["digest"] = hashlib.sha256(payload[-1].read()).hexdigest()
    _last[session.id] = payload[-1]


def mixed(state, payload):
    state["files"] = [type(item["data"]).__name__ for item in payload["files"]] + [payload["note"]]


def give(session):
    session.download(_last[session.id], "back again.bin")


def small(session):
    session.download(b"a,b\n", "täble.csv")
