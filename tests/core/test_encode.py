"""What values look like on the wire, and what comes back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import subprocess
import sys
import uuid
from collections import OrderedDict, UserDict, defaultdict, deque
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.encode import (
    Encoders,
    Segmented,
    decode,
    encode,
    encode_value,
    encoders,
    is_plain,
    render,
)
from greenroom.core.errors import Unencodable
from greenroom.core.state import State, Template
from greenroom.core.types import Bytes

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text("ab_$é\n", max_size=4), inner, max_size=4),
    ),
    max_leaves=12,
)


def visible(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: visible(item) for key, item in value.items() if not key.startswith("_")}
    return [visible(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_json_values_come_back(value: Any) -> None:
    assert is_plain(value)
    assert decode(json.loads(encode(value))) == visible(value)


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.integers(-(10**15), 10**15).map(lambda number: number / 1000),
        st.integers(-(10**6), 10**6).map(lambda number: number / 10),
        st.text(),
        st.booleans(),
        st.none(),
    )
)
def test_scalars_look_as_orjson_writes_them(value: Any) -> None:
    try:
        expected = orjson.dumps(value)
    except TypeError:
        if isinstance(value, int):
            expected = f'"{value}"'.encode()
        else:
            with pytest.raises(Unencodable, match="Unicode"):
                encode(value)
            return
    assert encode(value) == expected


class Colour(enum.Enum):
    RED = "red"
    MANY = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(str):
    __slots__ = ()


class Number(int):
    pass


class Part(float):
    pass


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date
    _hidden: int = 0


class Chart:
    def to_dict(self) -> Any:
        return {"kind": Colour.RED, "points": (Point(1, dt.date(2020, 1, 2)),)}


class Pair(NamedTuple):
    a: int
    b: int


UTC = dt.UTC


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "null"),
        (float("-inf"), "null"),
        ([float("inf"), 1.5e300], "[null,1.5e+300]"),
        (2**64 - 1, "18446744073709551615"),
        (-(2**63), "-9223372036854775808"),
        (2**64, '"18446744073709551616"'),
        ([-(2**63) - 1], '["-9223372036854775809"]'),
        (9223372036854775807, "9223372036854775807"),
        (10**19, "10000000000000000000"),
        ((1, (2,)), "[1,[2]]"),
        ({1}, "[1]"),
        (frozenset({"a"}), '["a"]'),
        (Pair(1, 2), "[1,2]"),
        (OrderedDict(a=1), '{"a":1}'),
        (defaultdict(list, a=[()]), '{"a":[[]]}'),
        (Word("a"), '"a"'),
        ({Word("k"): Word("v")}, '{"k":"v"}'),
        (Number(5), "5"),
        (Part(0.5), "0.5"),
        (decimal.Decimal("1.10"), '"1.10"'),
        (Colour.RED, '"red"'),
        (Colour.MANY, "[1,2]"),
        (Level.LOW, "1"),
        (dt.datetime(2020, 1, 2, 3, 4, 5, 6, UTC), '"2020-01-02T03:04:05.000006+00:00"'),
        (dt.datetime(2020, 1, 2), '"2020-01-02T00:00:00"'),  # noqa: DTZ001
        (dt.date(2020, 1, 2), '"2020-01-02"'),
        (dt.time(3, 4), '"03:04:00"'),
        (dt.timedelta(days=1, milliseconds=1500), "86401.5"),
        (2j - 1, '"(-1+2j)"'),
        (range(1, 4), "[1,2,3]"),
        (deque([1, {2}]), "[1,[2]]"),
        (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
        (Point(1, dt.date(2020, 1, 2)), '{"x":1,"when":"2020-01-02"}'),
        (Chart(), '{"kind":"red","points":[{"x":1,"when":"2020-01-02"}]}'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        (bytearray(b"hi"), '{"$bytes":"aGk="}'),
        (memoryview(b"hi"), '{"$bytes":"aGk="}'),
        (Bytes(b"hi", "a/b", "n\n"), '{"$bytes":"aGk=","mime":"a/b","name":"n\\n"}'),
        ({"$bytes": 1}, '{"$dict":{"$bytes":1}}'),
        ([{"$dict": {"$bytes": b""}}], '[{"$dict":{"$dict":{"$dict":{"$bytes":{"$bytes":""}}}}}]'),
        ({"_p": object(), "a": [{"_q": object()}], "$": 1}, '{"a":[{}],"$":1}'),
        (State({"a": {"_p": 1, "b": (1,)}}), '{"a":{"b":[1]}}'),
        ([State({"$dict": 1})], '[{"$dict":{"$dict":1}}]'),
        (Template({"a": 1}).open().view, '{"a":1}'),
        ("é\x7f\u2028", '"é\x7f\u2028"'),
        ('"\\\n\x00', '"\\"\\\\\\n\\u0000"'),
    ],
)
def test_table(value: Any, text: str) -> None:
    assert encode(value).decode() == text


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (object(), "builtins.object has no form"),
        ([{"a": (object(),)}], "object"),
        (lambda: None, "function"),
        ("\ud800", "Unicode"),
        (["\ud800"], "Unicode"),
        ({"\ud800": 1}, "Unicode"),
        ({1: 2}, "strings, not int"),
        ([{(1,): 2}], "strings, not tuple"),
        (UserDict(a=1), "UserDict"),
        ((str(number) for number in (1, 2)), "generator"),
    ],
)
def test_values_without_a_form(value: Any, match: str) -> None:
    with pytest.raises(Unencodable, match=match):
        encode(value)


def test_depth_names_the_path() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert encode(value) == b"[" * 100 + b"1" + b"]" * 100
    with pytest.raises(ValueError, match=r"deeper than 100.*\['a'\]\[0\]\[0\]"):
        encode({"a": value})
    circle: dict[str, Any] = {"x": (1,)}
    circle["me"] = [circle]
    with pytest.raises(ValueError, match=r"\['me'\]\[0\]\['me'\]"):
        encode(circle)

    class Endless:
        def to_dict(self) -> Any:
            return Endless()

    with pytest.raises(ValueError, match="deeper"):
        encode(Endless())
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        encode(deep)
    assert not is_plain(deep)
    while deep:
        deep = deep.pop()


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, True),
        ([1, {"a": (None, "x", 1.5)}], True),
        ({"_p": 1, "$bytes": 2}, True),
        (2**70, True),
        ({1: 2}, False),
        (Word("x"), False),
        ([Level.LOW], False),
        ({1}, False),
        (b"", False),
        (dt.date(2020, 1, 1), False),
    ],
)
def test_plain_values_run_no_python_code(value: Any, plain: bool) -> None:
    assert is_plain(value) is plain


def test_buffers_travel_beside_the_text() -> None:
    value = {"a": b"one", "b": [Bytes(b"two", "x/y")]}
    encoded = encode_value(value)
    assert isinstance(encoded, Segmented)
    assert len(encoded.pieces) == len(encoded.buffers) + 1
    assert encoded.buffers == (b"one", b"two")
    buffers: list[bytes] = [b"zero"]
    text = render(encoded, True, buffers)
    assert json.loads(text) == {"a": {"$bytes": 1}, "b": [{"$bytes": 2, "mime": "x/y"}]}
    assert buffers == [b"zero", b"one", b"two"]
    assert decode(json.loads(text), buffers) == value
    plain = render(encoded, False, [])
    assert len(plain) == encoded.nbytes == len(encoded)
    assert decode(json.loads(plain)) == value
    assert encoded == encode_value(value)
    assert hash(encoded) == hash(encode_value(value))
    assert "2 buffers" in repr(encoded)
    assert encode_value([1]) == b"[1]"
    assert render(b"[1]", True, buffers) == b"[1]"


def test_decoding_keeps_what_has_no_special_form() -> None:
    value = {"a": [1, {"b": None}], "$": 2, "$other": {}}
    assert decode(value) is value
    back = decode({"$bytes": "aGk=", "mime": "a/b", "name": "n"})
    assert (back, back.mime, back.name) == (b"hi", "a/b", "n")
    assert decode({"x": {"$dict": {"$bytes": "!"}}}) == {"x": {"$bytes": "!"}}
    assert decode({"$dict": {"$dict": {"$bytes": ""}}}) == {"$dict": b""}


# ---------------------------------------------------------------- the registry


def test_rows_by_type_and_by_name() -> None:
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    class Tip(Money):
        pass

    name = f"{Money.__module__}.{Money.__qualname__}"
    with pytest.raises(Unencodable, match="register"):
        encode(Money(5))
    encoders[name] = lambda money: ("by name", money.cents)
    try:
        assert encode([Money(5), Tip(6)]) == b'[["by name",5],["by name",6]]'
        encoders[Tip] = lambda tip: b"t"
        assert encode(Tip(6)) == b'{"$bytes":"dA=="}'
        assert encode(Money(5)) == b'["by name",5]'
        assert Tip in encoders
        assert encoders[Tip](None) == b"t"
    finally:
        del encoders[name]
        encoders._rows.pop(Tip, None)
        encoders._found.clear()
    with pytest.raises(Unencodable):
        encode(Money(5))


def test_a_registry_of_its_own() -> None:
    mine = Encoders()
    assert len(mine) == 0

    @mine.register(complex)
    def _(value: complex) -> str:
        return str(value)

    assert encode_value([1j], mine) == b'["1j"]'
    with pytest.raises(Unencodable):
        encode_value(decimal.Decimal(1), mine)
    with pytest.raises(TypeError, match=r"module\.Class"):
        mine[5] = str  # type: ignore[index]
    with pytest.raises(ValueError, match=r"module\.Class"):
        mine["Plain"] = str
    with pytest.raises(TypeError, match="function"):
        mine[int] = 5  # type: ignore[assignment]
    for i in range(1100):
        mine.find(type(f"T{i}", (), {}))
    assert len(mine._found) <= 1024


def test_rows_for_subclasses_of_known_types() -> None:
    mine = Encoders({Number: lambda number: f"number {int(number)}"})
    assert encode_value([Number(5), 5], mine) == b'["number 5",5]'
    assert encode_value(Word("a"), mine) == b'"a"'


def test_a_dataclass_with_to_dict_speaks_for_itself() -> None:
    @dataclasses.dataclass
    class Own:
        x: int

        def to_dict(self) -> Any:
            return [self.x]

    assert encode(Own(1)) == b"[1]"
    with pytest.raises(Unencodable):
        encode(Own)


def test_errors_of_encoders_are_their_own() -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encode(Bad())


def test_without_orjson_the_answers_are_the_same() -> None:
    script = (
        "import sys; sys.modules['orjson'] = None\n"
        "from greenroom.core.encode import encode\n"
        "from greenroom.core.state import State\n"
        "s = State({'a': 'x'}); s['a'] = ['é', 1.5, float('nan'), {'_p': 1, 'k': 2**70}]\n"
        "s['b'] = '\\x00\"'; s['f'] = 2.5\n"
        "out = s.take_patch().encode() + encode(['\\u2028', -1.5e300, None])\n"
        "sys.stdout.buffer.write(out)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert out.decode() == (
        '{"=":{"/a":["é",1.5,null,{"k":"1180591620717411303424"}],"/b":"\\u0000\\"","/f":2.5}}'
        '["\u2028",-1.5e+300,null]'
    )
