"""Frames and figures in the state of one session, for a page that draws them."""

import io

import altair as alt
import matplotlib.figure
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl

import greenroom as gr


def draw(state):
    days = pd.date_range("2026-01-01", periods=4)
    state["pandas"] = pd.DataFrame({"day": days, "name": ["a", None, "c", "é"], "n": [1, 2, 3, 4]})
    state["polars"] = pl.DataFrame({"name": ["x", "y"], "share": [0.25, None]})
    state["table"] = gr.EditableTable(pd.DataFrame({"name": ["a", "b"], "n": [1, 2]}))
    state["numbers"] = np.linspace(0, 1, 3)
    state["matplotlib"] = _figure("C0")
    picture = io.BytesIO()
    _figure("C2").savefig(picture, format="png")
    state["packed"] = gr.pack_bytes(picture.getvalue(), "image/png")
    figure = go.Figure(go.Bar(x=["a", "b"], y=np.array([2, 3])))
    figure.update_layout(margin={"l": 30, "r": 10, "t": 10, "b": 25})
    state["plotly"] = figure
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [3, 1, 2]})
    chart = alt.Chart(frame, width=310, height=180)
    state["altair"] = chart.mark_line().encode(x="x:Q", y="y:Q")


def _figure(color):
    figure = matplotlib.figure.Figure(figsize=(3.6, 2.4), layout="constrained")
    figure.subplots().plot([1, 3, 2], color=color)
    return figure


def edit(state):
    state["table"].record(0)["n"] = 10
    state["table"].add({"name": "c"})


gr.init_state({})
