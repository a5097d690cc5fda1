"""The mapping of panoramas: a pickle that must not be trusted, and the search for the nearest place."""

import builtins
import os
import pickle
import pickletools
import tracemalloc
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs._routes.compass import METRES_PER_DEGREE, distance_metres
from envs._routes.faults import RouteDataError
from envs._routes.panorama_index import PanoramaIndex, read_panoramas


class _Runs:
    """Pickles as a call of some function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def _hostile_pickles(marker: Path) -> dict[str, bytes]:
    touch = f"touch {marker}"
    return {
        "a call of os.system": pickle.dumps({(1.0, 2.0): _Runs(os.system, touch)}),
        "a call of eval": pickle.dumps(_Runs(builtins.eval, f"open({str(marker)!r}, 'w')")),
        "a call in the oldest protocol": b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "an instance": pickle.dumps({(1.0, 2.0): Path("x")}),
        "a persistent id": b"\x80\x04\x8c\x01xQ.",
        "a persistent id in text": b"Psomething\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "a set": pickle.dumps({1, 2}),
        "a list": pickle.dumps([(1.0, 2.0)]),
        "bytes": pickle.dumps({(1.0, 2.0): b"x"}),
        "a key that is no point": pickle.dumps({"a": "b"}),
        "a point of three": pickle.dumps({(1.0, 2.0, 3.0): "b"}),
        "a point of truth values": pickle.dumps({(True, 2.0): "b"}),
        "points in points": pickle.dumps({((1.0, 2.0), (1.0, 2.0)): "b"}),
        "a dictionary in a dictionary": pickle.dumps({(1.0, 2.0): {}}),
        "nothing after a mark": b"(.",
        "a pop of nothing": b"\x80\x04\x86.",
        "a memory that is empty": b"\x80\x04h\x07.",
        "half a file": pickle.dumps({(1.0, 2.0): "b"})[:-4],
        "no pickle": b"PK\x03\x04 and so on",
        "an empty file": b"",
        "a point that is nowhere": pickle.dumps({(91.0, 2.0): "b"}),
        "a point that is no number": pickle.dumps({(float("nan"), 2.0): "b"}),
        "a name that leads elsewhere": pickle.dumps({(1.0, 2.0): "../../etc/passwd"}),
        "a name that clears the screen": pickle.dumps({(1.0, 2.0): "x\x1b[2J"}),
        "a name that no file can have": b"\x80\x04}G" + bytes(8) + b"G" + bytes(8) + b"\x86\x8c\x03\xed\xa0\x80s.",
        "a name of several lines": pickle.dumps({(1.0, 2.0): "x\ny"}),
        "a name without an end": pickle.dumps({(1.0, 2.0): "x" * 201}),
        "a point that stands there twice": b"\x80\x04}(K\x01K\x02\x86\x8c\x01aK\x01K\x02\x86\x8c\x01bu.",
        "a call of numpy": pickle.dumps({(1.0, 2.0): _Runs(np.array, [1])}),
        "an array of numpy": pickle.dumps({(np.float64(1), np.zeros(3).tobytes()): "x"}),
        "a number of numpy that is not whole": pickle.dumps(np.float64(1.5)).replace(b"C\x08", b"C\x07"),
        "a dictionary with a default": pickle.dumps(defaultdict(str, {(1.0, 2.0): "x"})),
        "an ordered dictionary of a dictionary": pickle.dumps(OrderedDict({(1.0, 2.0): OrderedDict()})),
    }


@pytest.mark.parametrize("kind", list(_hostile_pickles(Path("x"))))
def test_a_pickle_that_is_not_a_plain_mapping_is_refused_unexecuted(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "was_executed"
    path = tmp_path / "gps_pano_mapping.pkl"
    path.write_bytes(_hostile_pickles(marker)[kind])
    with pytest.raises(RouteDataError, match=r"gps_pano_mapping\.pkl: .+; "):
        read_panoramas(path)
    assert not marker.exists()


def test_a_pickle_of_absurd_size_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "gps_pano_mapping.pkl"
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(RouteDataError, match="bytes"):
        read_panoramas(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_mappings_are_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    mapping = {(40.0 + i / 1000, -74): f"pano-é{i % 300}" for i in range(1200)}
    path = tmp_path / "mapping.pkl"
    path.write_bytes(pickle.dumps(mapping, protocol=protocol))
    assert read_panoramas(path) == mapping


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_numbers_of_numpy_and_ordered_dictionaries_are_read_in_old_and_new_protocols(
    kind: type, number: type, protocol: int, tmp_path: Path
) -> None:
    mapping = kind({(number(40 + i / 1000), number(-74.25)): f"pano-{i}" for i in range(1100)})
    path = tmp_path / "mapping.pkl"
    path.write_bytes(pickle.dumps(mapping, protocol=protocol))
    assert read_panoramas(path) == {(float(key[0]), float(key[1])): name for key, name in mapping.items()}


def test_numbers_of_numpy_are_named_differently_by_its_first_version(tmp_path: Path) -> None:
    path = tmp_path / "mapping.pkl"
    path.write_bytes(pickle.dumps({(np.float64(1.5), 2.0): "x"}, protocol=2).replace(b"numpy._core.", b"numpy.core."))
    assert read_panoramas(path) == {(1.5, 2.0): "x"}


def test_a_panorama_may_be_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mapping.pkl"
    path.write_bytes(pickle.dumps({(1.0, 2.0): None, (3.0, 4.0): "x"}))
    assert read_panoramas(path) == {(1.0, 2.0): "", (3.0, 4.0): "x"}


_MODULUS = 2**61 - 1
"""Numbers that differ by a multiple of it have one hash."""


def _integers_of_one_hash(number: int) -> bytes:
    integers = ((i * _MODULUS + 7).to_bytes(10, "little") for i in range(number))
    return b"\x80\x04}(" + b"".join(b"\x8a\x0a" + i + b"K\x02\x86\x8c\x01x" for i in integers) + b"u."


def _rows_of(body: bytes, number: int) -> bytes:
    return b"\x80\x04}" + body * number + b"."


def _floats_of_one_hash(number: int) -> bytes:
    """Points in degrees whose hashes are all equal: each longitude is solved for, given a latitude."""
    found: dict[tuple[float, float], str] = {}
    target, latitude = hash((1.0, 2.0)), 0
    while len(found) < number:
        latitude += 1
        longitude = _second_of_hash(target, latitude / 2048)
        if longitude is not None:
            found[(latitude / 2048, longitude)] = f"p{latitude}"
    assert len({hash(point) for point in found}) == 1
    return pickle.dumps(found)


def _second_of_hash(target: int, first: float) -> float | None:
    one, two, five = 11400714785074694791, 14029467366897019727, 2870177450012600261
    mask = 2**64 - 1

    def mixed(sum_: int, lane: int) -> int:
        sum_ = (sum_ + lane * two) & mask
        return ((sum_ << 31 | sum_ >> 33) & mask) * one & mask

    wanted = (target - (2 ^ (five ^ 3527539))) & mask
    wanted = wanted * pow(one, -1, 2**64) & mask
    wanted = (wanted >> 31 | wanted << 33) & mask
    lane = (wanted - mixed(five, hash(first) & mask)) * pow(two, -1, 2**64) & mask
    signed = lane - 2**64 if lane >= 2**63 else lane
    if not 0 < signed < _MODULUS:
        return None
    # A float is 53 bits times a power of two, and a power of two only turns the 61 bits of its hash around.
    for turn in range(61):
        bits = (signed << turn | signed >> (61 - turn)) & _MODULUS
        if bits < 2**53:
            value = bits * 2.0 ** -(turn + 61)
            return value if hash(value) == signed else None
    return None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_integers_of_one_hash(4_000), "in degrees"),
        (_floats_of_one_hash(200), "take forever"),
        (_rows_of(b"}", 1_000_000), "more than one dictionary"),
        (_rows_of(b"(", 1_000_000), "wait to be put"),
        (_rows_of(b"N", 1_000_000), "wait to be put"),
        (_rows_of(b"\x94", 1_000_000), "remembers a value twice"),
        (_rows_of(b"\x95" + bytes(8), 1_000_000), "instructions for 0 points"),
        (pickle.dumps({(1.0 + i * 1e-9, 2.0): "x" for i in range(1001)}), "1001 panoramas within 20 metres"),
    ],
    ids=["integers", "floats", "dictionaries", "marks", "nothings", "memory", "frames", "crowd"],
)
def test_a_pickle_that_would_take_time_or_memory_is_refused_at_once(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "gps_pano_mapping.pkl"
    path.write_bytes(data)
    tracemalloc.start()
    start = process_time()
    with pytest.raises(RouteDataError, match=says):
        read_panoramas(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert process_time() - start < 2
    assert peak < len(data) + 32 * 2**20


_INSTRUCTIONS = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
_ARGUMENTS = [b"\x00", b"\x01", b"1\n", b"a\n", b"\x01a", b"\xff\xff\xff\x7f", pickle.dumps({(1.0, 2.0): "b"})[:-1]]


@given(st.lists(st.sampled_from(_INSTRUCTIONS + _ARGUMENTS) | st.binary(max_size=9)).map(b"".join))
def test_no_bytes_at_all_upset_the_reader(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "gps_pano_mapping.pkl")
        path.write_bytes(data)
        with suppress(RouteDataError):
            read_panoramas(path)


@given(seed=st.integers(0, 2**32), latitude=st.floats(-80, 80), longitude=st.floats(-179, 179), spread=st.floats(1, 60))
def test_the_nearest_panorama_is_the_one_that_a_search_of_all_finds(
    seed: int, latitude: float, longitude: float, spread: float
) -> None:
    generator = Random(seed)

    def nearby() -> tuple[float, float]:
        return (
            latitude + generator.uniform(-spread, spread) / METRES_PER_DEGREE,
            longitude + generator.uniform(-spread, spread) / METRES_PER_DEGREE,
        )

    panoramas = {nearby(): str(number) for number in range(12)}
    point = nearby()
    distance, nearest = min((distance_metres(point, other), other) for other in panoramas)
    stop = PanoramaIndex(panoramas).nearest(point)
    assert (stop.point if stop else None) == (nearest if distance <= 20 else None)
