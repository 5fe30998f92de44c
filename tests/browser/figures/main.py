"""Frames and figures in the state of one session, for a page that draws them."""

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
    figure = matplotlib.figure.Figure(figsize=(3, 2))
    figure.subplots().plot([1, 3, 2])
    state["matplotlib"] = figure
    state["plotly"] = go.Figure(go.Bar(x=["a", "b"], y=np.array([2, 3])))
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [3, 1, 2]})
    state["altair"] = alt.Chart(frame).mark_line().encode(x="x:Q", y="y:Q")


def edit(state):
    state["table"].record(0)["n"] = 10
    state["table"].add({"name": "c"})


gr.init_state({})
