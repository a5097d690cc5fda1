"""Broken and hostile copies of a small folder of routes, and what reading one does.

    HostileFolder(folder)          made once: one route with pictures
    .try_one(seed)                 breaks one file as the seed says, reads and shows all, and puts the file back

Bytes are flipped, cut, doubled and mixed with those of other files, and the meaning of files is changed where
they keep their form: values of wrong kinds and sizes in JSON, other instructions in the pickle, other sizes in
a JPEG. Whatever it is, it must read as data or be refused as RouteDataError, soon, in little memory, and
without a program being started.
"""

import json
import os
import pickle
import pickletools
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

from PIL import Image

from envs._city.build import build_city
from envs._routes.check import check_folder
from envs._routes.dataset import load_routes
from envs._routes.faults import RouteDataError
from envs._routes.street_views import four_views, load_panorama

STARTS_A_PROGRAM = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.")

_ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    10**30,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\x1b[2J\ud800",
    "x" * 5000,
    [],
    {},
    [[]] * 50,
    [1e9, 1e9],
    "The destination",
    " is on your left",
    {"rotation": [1]},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How one broken folder was read: `Tried(file="route_infos.json", refused=True, seconds=0.004)`."""

    file: str
    refused: bool
    seconds: float


class HostileFolder:
    """A folder of one route with small pictures, one file of which is broken at a time."""

    def __init__(self, folder: Path) -> None:
        build_city(folder, style="garden", num_routes=1, seed=3, num_turns=(1, 1), panorama_width=64)
        self._folder = folder
        shown = load_routes(folder, places_per_segment=5, pictures=True).routes[0].start.panorama
        self._picture = folder / "street_views" / f"{shown}.jpg"
        _save_in_many_ways(self._picture)
        files = [folder / "route_infos.json", folder / "gps_pano_mapping.pkl", self._picture]
        self._files = [*files, folder / "street_views" / f"{shown}.metadata.json"]
        self._contents = {file: file.read_bytes() for file in self._files}

    def try_one(self, seed: int) -> Tried:
        """Breaks a file, reads the folder and cuts a view; raises whatever is raised but RouteDataError."""
        generator = Random(seed)
        file = generator.choices(self._files, [3, 4, 4, 1])[0]
        file.write_bytes(self._broken(file, generator))
        os.utime(file, ns=(seed, seed))  # so soon after the last change the clock may show the same time
        start = process_time()
        try:
            refused = self._is_refused(seed)
        finally:
            seconds = process_time() - start
            file.write_bytes(self._contents[file])
        return Tried(file=file.name, refused=refused, seconds=seconds)

    def _is_refused(self, seed: int) -> bool:
        refused = False
        reads: list[Callable[[], object]] = [self._play]
        if seed % 4 == 0:
            reads.append(lambda: check_folder(self._folder).describe().encode("utf-8"))
        for read in reads:
            try:
                read()
            except RouteDataError as error:
                str(error).encode("utf-8")
                refused = True
        return refused

    def _play(self) -> None:
        found = load_routes(self._folder, places_per_segment=5, pictures=True)
        for entry in found.left_out:
            f"{entry.title} {entry.reason}".encode()
        four_views(load_panorama(self._picture), heading=10, rotation=20, size=64)

    def _broken(self, file: Path, generator: Random) -> bytes:
        content = self._contents[file]
        ways: list[Callable[[bytes, Random], bytes]] = [_flipped, _cut, _doubled, self._spliced]
        if file.suffix == ".json":
            ways += [_other_values] * 4
        elif file.suffix == ".pkl":
            ways += [_other_instructions, _other_items] * 2
        else:
            ways += [_other_headers, _other_format] * 2
        return generator.choice(ways)(content, generator)

    def _spliced(self, content: bytes, generator: Random) -> bytes:
        other = self._contents[generator.choice(self._files)]
        return content[: generator.randrange(len(content))] + other[generator.randrange(len(other)) :]


def _save_in_many_ways(path: Path) -> None:
    """Gives the picture the parts that real ones have: an Exif block, a profile, several passes."""
    with Image.open(path) as picture:
        picture.load()
    exif = Image.Exif()
    exif[0x010E] = "a street"
    picture.save(path, quality=85, progressive=True, exif=exif, icc_profile=b"profile" * 9, comment=b"words")


def _flipped(content: bytes, generator: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 5, 30])):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def _cut(content: bytes, generator: Random) -> bytes:
    start, end = sorted(generator.randrange(len(content)) for _ in range(2))
    return generator.choice([content[:start], content[end:], content[:start] + content[end:]])


def _doubled(content: bytes, generator: Random) -> bytes:
    start = generator.randrange(len(content))
    end = min(len(content), start + generator.choice([1, 3, 40, 1000]))
    return content[:end] + content[start:end] * generator.choice([1, 7, 2000]) + content[end:]


def _other_values(content: bytes, generator: Random) -> bytes:
    """Replaces, removes or repeats values anywhere in the tree."""
    root = [json.loads(content)]
    for _ in range(generator.choice([1, 1, 3])):
        holder: Any = root
        key: Any = 0
        while isinstance(holder[key], dict | list) and holder[key] and generator.random() < 0.85:
            holder = holder[key]
            key = generator.choice(list(holder)) if isinstance(holder, dict) else generator.randrange(len(holder))
        kind = generator.randrange(4)
        if kind == 0 and isinstance(holder[key], str):
            holder[key] = _flipped(holder[key].encode("utf-8", "surrogatepass") or b"x", generator).decode(
                "utf-8", "replace"
            )
        elif kind == 1 and holder is not root:
            del holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder += [holder[key]] * generator.choice([1, 30, 600])
        else:
            holder[key] = generator.choice(_ODD_VALUES)
    return json.dumps(root[0] if root else None).encode()


_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def _other_instructions(content: bytes, generator: Random) -> bytes:
    """Puts instructions between those of the pickle, or removes some."""
    places = [position for _, _, position in pickletools.genops(content) if position is not None]
    at = generator.choice(places)
    end = generator.choice([at, at, *places])
    added = b"".join(
        generator.choice(_OPCODES) + generator.choice([b"", b"\x01", b"os\nsystem\n", b"\xff" * 8, b"9" * 40 + b"\n"])
        for _ in range(generator.choice([1, 3, 9]))
    )
    return content[:at] + added * generator.choice([1, 1, 5000]) + content[max(at, end) :]


def _other_items(content: bytes, generator: Random) -> bytes:
    """Other keys and names, in any protocol, well formed as a pickle."""
    mapping = pickle.loads(content)
    for _ in range(generator.choice([1, 3])):
        odd = generator.choice(
            [*(value for value in _ODD_VALUES if value.__hash__), (1.0, 2.0, 3.0), ((1.0,),), (10**40, 1)]
        )
        key = generator.choice([odd, (odd, -30.0), (40.0, odd), generator.choice(list(mapping))])
        if len(mapping) > 1 and generator.random() < 0.3:
            del mapping[generator.choice(list(mapping))]
        try:
            mapping[key] = generator.choice([*_ODD_VALUES, "../x", "\x1b"])
        except TypeError:
            continue
    return _pickled(mapping, generator.randrange(6))


def _pickled(mapping: dict[Any, Any], protocol: int) -> bytes:
    try:
        return pickle.dumps(mapping, protocol)
    except UnicodeEncodeError:  # old protocols cannot write every text
        return pickle.dumps(list(mapping), 4)


def _other_headers(content: bytes, generator: Random) -> bytes:
    """Other numbers where a JPEG says its size, its components and the lengths of its parts."""
    markers = [at for at in range(len(content) - 12) if content[at] == 0xFF and content[at + 1] in range(0xC0, 0xFF)]
    at = generator.choice(markers) + generator.randrange(2, 10)
    values = [0, 1, 3, 255, 256, 8191, 65535]
    number = generator.choice(values).to_bytes(2, "big")
    return content[:at] + number + content[at + 2 :]


def _other_format(content: bytes, generator: Random) -> bytes:
    """A picture of another kind or shape under the same name; EPS would start Ghostscript."""
    size = generator.choice([(64, 32), (1, 1), (3000, 1), (1, 900), (400, 200)])
    name, mode = generator.choice(
        [
            ("EPS", "RGB"),
            ("PNG", "RGBA"),
            ("GIF", "P"),
            ("TIFF", "I;16"),
            ("PDF", "RGB"),
            ("JPEG", "CMYK"),
            ("JPEG", "L"),
        ]
    )
    file = BytesIO()
    Image.new(mode, size).save(file, name)
    return file.getvalue()


def peak_megabytes() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def watch_for_programs(started: list[str]) -> None:
    """Notes every start of a program by this process, for as long as it lives."""
    sys.addaudithook(lambda event, _: started.append(event) if event.startswith(STARTS_A_PROGRAM) else None)
