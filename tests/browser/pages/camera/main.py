"""What the browser test of cameras and files serves: the handlers as people write them."""

import os
from pathlib import Path

import greenroom as gr

os.chdir(Path(__file__).parent)  # a copy's, which may be written to
gr.init_state({"files": [], "heard": None})


def handle_webcam_capture(payload):
    image_file = payload
    with open("picture.png", "wb") as file_handle:
        file_handle.write(image_file)
    return [type(payload).__name__, payload.mime, payload.name, len(payload)]


def handle_file_change(state, payload):
    names = []
    for number, file in enumerate(payload):
        with open(f"{number}-{file['name']}", "wb") as file_handle:
            file_handle.write(file["data"].read())
        names.append(f"{file['name']} {file['type']}")
    state["files"] = names


def no_camera(state, payload, context):
    state["heard"] = [payload["reason"], context["event"], context["target"]]
