"""A counter inside a FastAPI application. Start it with

uvicorn --app-dir examples/fastapi_counter main:api

and open http://127.0.0.1:8000/. The page is an ordinary route; everything live is below /live.
"""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

import greenroom as gr
from greenroom.adapters import asgi


def add(state, payload: int):
    state["count"] += payload
    return state["count"]


live = gr.App(state={"count": 0}, handlers=[add])
api = FastAPI(lifespan=asgi.lifespan(live))
api.mount("/live", asgi.application(live))


@api.get("/", response_class=HTMLResponse)
def page():
    return PAGE


@api.get("/visitors")
def visitors():
    """An ordinary route sees the same sessions."""
    return {"counts": [session.state["count"] for session in live.sessions.values()]}


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A counter in FastAPI</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; font: 1.25rem/1.5 system-ui, sans-serif; }
  body { display: grid; place-content: center; gap: 1rem; min-height: 90vh; text-align: center; }
  output { font-size: 4rem; font-weight: 650; }
  button { font: inherit; padding: 0.4rem 1.2rem; }
</style>
<body>
<output data-gr-text="count" aria-label="Count">0</output>
<div>
  <button data-gr-on:click="add" data-gr-payload="-1">less</button>
  <button data-gr-on:click="add" data-gr-payload="1">more</button>
</div>
<script type="module">
  import { connect } from "/live/greenroom.js";
  connect().bind(document);
</script>
"""
