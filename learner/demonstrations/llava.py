"""Demonstrations from and to LLaVA's format: a JSON list of dialogues.

    [{"image": "hands/7.png",                               a path, several in a list, or null
      "conversations": [{"from": "human", "value": "<image>\\nMake 24 …"},
                        {"from": "gpt",   "value": "{\\"cards\\": …"}]}, …]

A marker `<image>` stands for each picture, in the order of the paths, which are relative to a folder. A picture stands
before the text of its message, wherever its marker is. Other keys of an item are not read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from envs._cards.pictures import RANKS
from envs.mixture import Environment as Mixture
from envs.protocol import Env
from learner.demonstrations.demonstration import DemonstratedTurn, Demonstration, DemonstrationError, Provenance
from learner.demonstrations.demonstrators import keep_picture
from learner.demonstrations.files import CONTENT, pictures_folder, stage_pictures, staged
from verifier.answer_format import read_fields, read_integers, read_items
from verifier.hand import Hand
from verifier.protocol import Verdict

MARKER = "<image>"

Fault = Callable[[str, str, str], "LlavaError"]
"""Key, rule and fix → the error of an item."""


class LlavaError(DemonstrationError):
    """A file in LLaVA's format cannot be used; the message names the item, the key, the rule and the fix."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)

    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: str


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True)

    image: tuple[str, ...] = ()
    conversations: tuple[_Message, ...] = Field(min_length=2)

    @field_validator("image", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return () if given is None else (given,) if isinstance(given, str) else given


def read_llava(path: Path, env: Env, images: Path | None = None) -> Iterator[Demonstration]:
    """Every dialogue as a demonstration of the environment; `images` is the folder of the pictures, that of the file
    if not given. Its answers are not judged, since their tasks are not known, but their parts are."""
    if isinstance(env, Mixture):
        raise LlavaError(
            f"{path}: an item of this format does not say which part of a mixture it is of; import it with the "
            "configuration of that environment alone"
        )
    items, source = _items(path)
    reader = _Reader(path, env, images or path.parent, source)
    for number, item in enumerate(items):
        yield reader.read(number, item)


def write_llava(path: Path, demonstrations: Iterable[Demonstration]) -> int:
    """Write one dialogue for each context of the demonstrations; returns how many there are."""
    num_written = 0
    with staged(path) as folder, (folder / CONTENT).open("w", encoding="utf-8") as stream:
        for demonstration in demonstrations:
            stage_pictures(folder, demonstration.pictures)
            for turns in _contexts(demonstration):
                stream.write("[\n" if num_written == 0 else ",\n")
                stream.write(json.dumps(_as_item(path, turns), ensure_ascii=False))
                num_written += 1
        stream.write("\n]\n" if num_written else "[]\n")
    return num_written


def _items(path: Path) -> tuple[list[Any], str]:
    """The list, and the digest of the file."""
    try:
        content = path.read_bytes()
        items = json.loads(content)
    except OSError as error:
        raise LlavaError(f"{path}: cannot be read ({error.strerror}); name a file in LLaVA's format") from None
    except ValueError as error:
        raise LlavaError(f"{path}: is not JSON ({error}); copy or write it again") from None
    if not isinstance(items, list):
        raise LlavaError(f"{path}: must be a list of items; put [ and ] around them")
    return items, hashlib.sha256(content).hexdigest()


class _Reader:
    """Reads one item after another."""

    def __init__(self, path: Path, env: Env, images: Path, source: str) -> None:
        self._path, self._env, self._images, self._source = path, env, images, source
        # What the parts of an answer are can be read from the answer alone, so the reference of any task will do.
        self._reference = env.open(0, "train").first_question().reference

    def read(self, number: int, content: Any) -> Demonstration:
        """The item as a demonstration."""
        fault = partial(self._fault, number)
        item = _checked(content, fault)
        pictures: dict[str, bytes] = {}
        digests = iter([self._picture(name, pictures, fault) for name in item.image])
        turns = []
        for place in range(0, len(item.conversations), 2):
            asked, answered = item.conversations[place], item.conversations[place + 1]
            turns.append(
                DemonstratedTurn(
                    question=asked.value.replace(f"{MARKER}\n", "").replace(MARKER, ""),
                    images=tuple(next(digests) for _ in range(asked.value.count(MARKER))),
                    answer=answered.value,
                    starts_new_context=place == 0,
                    attempt=place // 2 + 1,
                    verdict=self._verdict(answered.value),
                )
            )
        cards, numbers = self._hand(turns[-1].answer)
        return Demonstration(
            env=self._env.config.name,
            split="train",
            seed=number,
            turns=tuple(turns),
            cards=cards,
            numbers=numbers,
            provenance=Provenance(kind="imported", source=self._source),
            pictures=pictures,
        )

    def _picture(self, name: str, pictures: dict[str, bytes], fault: Fault) -> str:
        path = self._images / name
        try:
            with Image.open(path) as picture:
                return keep_picture(picture.convert("RGB"), pictures)
        except (OSError, UnidentifiedImageError) as error:
            rule = f"{path} cannot be read as a picture ({type(error).__name__})"
            raise fault("image", rule, "copy it there, or name its folder with --images") from None

    def _verdict(self, answer: str) -> Verdict:
        spans = self._env.verifier.judge(answer, self._reference).spans
        return Verdict(outcome="imported", correct=False, reward=0.0, feedback="", spans=spans, checks={})

    def _hand(self, answer: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The cards that the answer names and what it counts them for, where the environment's tasks are hands."""
        if not isinstance(self._reference, Hand):
            return (), ()
        fields = read_fields(answer, ("cards", "number"))
        numbers = read_integers(fields["number"].text) if "number" in fields else None
        cards = read_items(fields["cards"].text) if "cards" in fields else tuple(map(str, numbers or ()))
        is_hand = all(card in RANKS or card.isdecimal() for card in cards)
        return (cards, numbers or ()) if is_hand else ((), ())

    def _fault(self, number: int, key: str, rule: str, fix: str) -> LlavaError:
        return LlavaError(f"{self._path}: item {number}: {key}: {rule}; {fix}")


def _checked(content: Any, fault: Fault) -> _Item:
    try:
        item = _Item.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the item"
        fix = 'write {"image": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}'
        raise fault(key, first["msg"], fix) from None
    for place, (message, speaker) in enumerate(zip(item.conversations, cycle(("human", "gpt")), strict=False)):
        if message.speaker != speaker:
            rule = f"is '{message.speaker}' where it is the turn of '{speaker}'"
            fix = "let them alternate, 'human' first; a system message goes into the first human one"
            raise fault(f"conversations.{place}.from", rule, fix)
        if speaker == "gpt" and MARKER in message.value:
            rule = f"holds {MARKER}, and only a human message shows pictures"
            raise fault(f"conversations.{place}.value", rule, "move the marker to the human message before")
    if len(item.conversations) % 2:
        raise fault("conversations", "ends with a question", "add the answer or remove the question")
    num_markers = sum(message.value.count(MARKER) for message in item.conversations)
    if num_markers != len(item.image):
        rule = f"names {len(item.image)} pictures, and the messages hold {num_markers} markers {MARKER}"
        raise fault("image", rule, "write one marker for each picture")
    return item


def _contexts(demonstration: Demonstration) -> Iterator[list[DemonstratedTurn]]:
    """The turns of each dialogue; a route has one for each step."""
    turns: list[DemonstratedTurn] = []
    for turn in demonstration.turns:
        if not turn.is_learned:
            raise LlavaError(
                f"{demonstration.name} shows an answer that is not to be imitated, which this format cannot say; "
                "write the demonstrations without --llava, or set data.imitates_mistakes=true"
            )
        if turn.starts_new_context and turns:
            yield turns
            turns = []
        turns.append(turn)
    yield turns


def _as_item(path: Path, turns: list[DemonstratedTurn]) -> dict[str, Any]:
    names = [f"{pictures_folder(path).name}/{digest}.png" for turn in turns for digest in turn.images]
    messages = []
    for turn in turns:
        messages.append({"from": "human", "value": f"{MARKER}\n" * len(turn.images) + turn.question})
        messages.append({"from": "gpt", "value": turn.answer})
    return {"image": names[0] if len(names) == 1 else names or None, "conversations": messages}
