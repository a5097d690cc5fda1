"""The mapping of panoramas: a pickle that must not be trusted, and the search for the nearest place."""

import builtins
import os
import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs._routes.compass import METRES_PER_DEGREE, distance_metres
from envs._routes.panorama_index import PanoramaIndex, RouteDataError, read_panoramas


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
