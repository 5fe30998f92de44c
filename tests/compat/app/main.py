"""A small shop, written for Writer Framework: nothing here was written with Greenroom in mind.

The tests copy this folder, change the import lines, and run what they get.
"""

import asyncio
import time

import catalogue
import orders
import writer as wf
from model import Shop, Thermometer
from writer import WriterState

print("the shop starts")

# -- globals: one copy for all users ---------------------------------------------------------------

PRICES = {"chair": 40, "table": 120, "lamp": 15}
VISITS = {"count": 0}


def _price(item):
    return PRICES[item]


# -- handlers --------------------------------------------------------------------------------------


def increment(state):
    state["counter"] += 1


def decrement(state: WriterState):
    state.counter -= 1


def rename(state, payload):
    state["customer"]["name"] = payload


def show_source(state, context: dict):
    state["last_click"] = {"target": context["target"], "event": context["event"]}


def pick(state, context):
    key = context["itemId"]
    state["rows"][key]["picked"] = True


def who_am_i(state, session):
    state["me"] = {
        "id": session["id"],
        "theme": session["cookies"].get("theme"),
        "agent": session["headers"].get("user-agent"),
        "known": "userinfo" in session,
    }
    return wf.core.get_session().session_id


def shuffle(state):
    state["deck"].reverse()
    # an existing object was changed: Writer asks for this
    state["deck"] = state["deck"]


def cut(state):
    state["deck"].pop()  # not assigned, so not sent


def forget(state):
    del state["customer"]["name"]
    state.remove("coupon")


def start_over(state):
    state["basket"].ingest({"lines": [], "note": "fresh", "_cost": 0})


def buy(state, payload):
    state["basket"]["lines"] += [payload]
    state["basket"]["_cost"] = state["basket"]["_cost"] + _price(payload)
    VISITS["count"] += 1
    return state["basket"]["_cost"]


def set_filter(state, payload):
    state["filters"]["text"] = payload
    state["filters"] = state["filters"]  # a plain dict: assigned as a whole


async def fetch(state):
    state["message"] = "Loading..."
    state["data"] = await _fetch_data()
    state["message"] = "Completed"


async def _fetch_data():
    await asyncio.sleep(0)
    return {"loaded": True}


def slowly(state):
    state["message"] = "Loading..."
    time.sleep(0.3)
    state["message"] = "Completed"


def fail(state):
    state["counter"] = 1_000_000
    raise ValueError("secret: the database password is hunter2")


def forgive(state):
    state["counter"] = 1_000_000
    raise LookupError("out of stock")


def inspect_payload(payload):
    print("Payload: " + repr(payload))


# -- values that change in place -------------------------------------------------------------------


def warm(state, payload):
    state["thermometer"].add(payload)


def edit_record(state, payload):
    state["stock"].record_update(payload)


def add_record(state, payload):
    state["stock"].record_add(payload)


def remove_record(state, payload):
    state["stock"].record_remove(payload)
    return state["stock"].record(0)


def restock(state):
    state["stock"].df = [{"item": "sofa", "left": 1}]


# -- what the page is asked to do ------------------------------------------------------------------


def say(state, payload):
    state.add_notification("success", "Shop", payload)
    state.add_log_entry("info", "Said", payload)


def export(state):
    state.file_download(wf.pack_bytes(b"item,left\n", "text/csv"), "stock.csv")


def picture(state):
    state["picture"] = wf.pack_file("picture.png", "image/png")


def advertise(state):
    state.open_url("https://example.org/")


def leave(state):
    state.set_page("goodbye")
    state.set_route_vars({"from": "shop"})
    state.call_frontend_function("charts", "draw", [1, 2])


# -- around all of them ----------------------------------------------------------------------------


@wf.middleware()
def count_events(state):
    state["_events"] += 1
    yield
    state["events"] = state["_events"]


@wf.middleware()
def forgive_lookups(state):
    try:
        yield
    except LookupError as error:
        state["message"] = f"sorry: {error}"


@wf.session_verifier
def not_banned(cookies, headers):
    return cookies.get("banned") is None


# -- the state -------------------------------------------------------------------------------------


def _count_history(state, payload):
    state["history"] = state["history"] + [payload["new_value"]]


def _note_basket(state, context, payload):
    state["basket"]["note"] = f"{len(payload['new_value'])} by {context['mutation']}"


def _greet(state):
    state["greeting"] = f"Hello, {state['customer']['name'] or 'stranger'}"


initial_state = wf.init_state(
    {
        "counter": 3,
        "basket": {"lines": [], "note": "", "_cost": 0},
        "filters": {"text": ""},
        "customer": {"name": "Ada"},
        "coupon": "SAVE10",
        "rows": {"k1": {"picked": False}, "k2": {"picked": False}},
        "deck": [1, 2, 3],
        "history": [],
        "message": "",
        "thermometer": Thermometer(20),
        "stock": wf.EditableDataFrame([{"item": "chair", "left": 4}, {"item": "lamp", "left": 0}]),
        "_events": 0,
    },
    schema=Shop,
)
initial_state["visitors"] = len(PRICES)
initial_state.subscribe_mutation("counter", _count_history)
initial_state.subscribe_mutation("basket.lines", _note_basket)
initial_state.subscribe_mutation(["customer.name"], _greet, initial_triggered=True)
initial_state.import_stylesheet("theme", "theme.css")
initial_state.import_frontend_module("charts", "./charts.js")

wf.init_handlers(orders)
wf.init_handlers([catalogue])
