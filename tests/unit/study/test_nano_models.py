"""Base models: grown from another without loss, taught what they should learn, refused where they cannot be made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, set_seed

from cluster.errors import ConfigError
from envs.lessons import DialogueTeacher
from rollout.transcript import ChatTokens
from study.nano.base import make_base
from study.nano.lessons import lesson_row
from study.nano.model import NanoModel, new_model
from study.nano.recipe import BaseRecipe, load_recipe
from study.nano.tokenizer import PICTURE_TOKENS

CARDS = {"name": "general_points", "validation_fraction": 0.02, "test_fraction": 0.2}
PICTURES = {**CARDS, "modality": "pictures", "look": {"size": 112}}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 2}
EYES = {"image_size": 56, "hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2}
QUIET = {"batch_size": 8, "micro_batch_tokens": 512}


def recipe(**options: Any) -> BaseRecipe:
    return BaseRecipe.model_validate(QUIET | options)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    stage = {"lessons": {"cards": {}}, "steps": 2, "learning_rate": 1e-3}
    make_base(recipe(environments={"cards": CARDS}, shape=SMALL, stages=[stage]), folder, show=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def picture_model(text_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    stages = [
        {"lessons": {"cards": {"answers": "mixed", "missee_fraction": 0.2}}, "steps": 2, "learning_rate": 1e-3},
        {"lessons": {"cards": {}, "words": {"weight": 2}}, "steps": 2, "learning_rate": 1e-3, "learn": "documents"},
    ]
    environments = {"cards": PICTURES, "words": CARDS}
    grown = recipe(environments=environments, grows_from=text_model, eyes=EYES, stages=stages, saved_as="float16")
    make_base(grown, folder, show=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def untaught(text_model: Path) -> tuple[NanoModel, DialogueTeacher]:
    """A picture model that has grown from the other and had no lesson yet, and who would teach it."""
    stage = {"lessons": {"cards": {"answers": "mixed"}}, "steps": 1, "learning_rate": 1e-3}
    grown = recipe(environments={"cards": PICTURES}, grows_from=text_model, eyes=EYES, stages=[stage])
    (teacher,) = grown.teachers(grown.stages[0])
    set_seed(1)
    return new_model(grown, [teacher]), teacher


def test_a_model_that_grew_speaks_as_before(untaught: tuple[NanoModel, DialogueTeacher], text_model: Path) -> None:
    """Every old token has its old number, and its old weights."""
    before, old = AutoModelForCausalLM.from_pretrained(text_model), ChatTokens.load(text_model)
    grown, _ = untaught
    text = 'Make 24 out of the 4 cards. {"cards": ["7", "K"], "formula": "(7-5)*10+4=24"}'
    token_ids = old.opening(text, 0)
    assert grown.chat.opening(text, 0) == token_ids
    assert len(grown.chat.tokenizer) > len(old.tokenizer) + len(PICTURE_TOKENS)
    with torch.no_grad():
        expected = before(torch.tensor([token_ids])).logits
        found = grown.model(torch.tensor([token_ids])).logits
    torch.testing.assert_close(found[..., : expected.shape[-1]], expected)


def test_a_picture_is_shown_and_never_learned(untaught: tuple[NanoModel, DialogueTeacher]) -> None:
    nano, teacher = untaught
    marks = [nano.chat.tokenizer.convert_tokens_to_ids(token) for token in PICTURE_TOKENS]
    for number in range(8):
        row = lesson_row(teacher.lesson(str(number)), nano.chat, "documents")
        whole = nano.family.expanded(row.token_ids, row.is_learned, row.images, 7)
        at_marks = np.isin(whole.token_ids, marks)
        assert at_marks.sum() == 4 + 3  # 2 x 2 tokens, two fences and the name of the view
        assert set(whole.sampled_at) == set(range(1, whole.num_tokens)) - set(np.flatnonzero(at_marks))
        assert whole.first_number == 7


def test_lessons_with_and_without_pictures_are_learned_by_one_model(picture_model: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(picture_model, dtype=torch.float32)
    chat = ChatTokens.load(picture_model)
    for images in ((), (Image.new("RGB", (112, 112), "green"),)):
        rendered = "<image>" * len(images) + "Make 24"
        inputs = chat.processor(text=rendered, images=list(images) or None, return_tensors="pt")
        assert torch.isfinite(model(**inputs).logits).all()


def test_what_is_kept_in_half_precision_is_half_as_large(text_model: Path, picture_model: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(picture_model)
    size = (picture_model / "model.safetensors").stat().st_size
    assert size < 2 * model.num_parameters() + 20_000
    assert (text_model / "model.safetensors").stat().st_size > 4 * 10_000


def test_a_recipe_makes_the_same_model_twice(text_model: Path, tmp_path: Path) -> None:
    stage = {"lessons": {"cards": {}}, "steps": 2, "learning_rate": 1e-3}
    make_base(recipe(environments={"cards": CARDS}, shape=SMALL, stages=[stage]), tmp_path, show=lambda line: None)
    assert (tmp_path / "model.safetensors").read_bytes() == (text_model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("stages: [{lessons: {cards: {}}, steps: 1, learning_rate: 1}]", "stages.0.lessons.cards: no such environment"),
        ("eyes: {image_size: 100}", "image_size=100 must be a multiple of"),
        ("learning: 1", "learning: Extra inputs are not permitted"),
        (
            "environments: {cards: {name: general_points, targets: 3}}\n"
            "stages: [{lessons: {cards: {}}, steps: 1, learning_rate: 1}]",
            "targets",
        ),
        (
            "environments: {cards: {name: general_point}}\n"
            "stages: [{lessons: {cards: {}}, steps: 1, learning_rate: 1}]",
            "did you mean 'general_points'",
        ),
        (
            "environments: {cards: {name: general_points}}\n"
            "stages: [{lessons: {cards: {answer: right}}, steps: 1, learning_rate: 1}]",
            "answer",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(written: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(written)
    with pytest.raises(ConfigError) as error:
        load_recipe(file)
    assert told in str(error.value)


def test_a_recipe_is_changed_by_key(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("shape: {hidden_size: 64, num_heads: 2}\nseed: 3\n")
    changed = load_recipe(file, ["shape.hidden_size=32", "saved_as=float16"])
    assert (changed.shape.hidden_size, changed.shape.num_heads, changed.seed, changed.saved_as) == (32, 2, 3, "float16")
    with pytest.raises(ConfigError, match=r"shape\.width"):
        load_recipe(file, ["shape.width=32"])
    file.write_text("stages: []\n")
    with pytest.raises(ConfigError, match=r"stages\.0\.steps=5 sets options where a list stands"):
        load_recipe(file, ["stages.0.steps=5"])
    with pytest.raises(ConfigError, match=r"larger: an override is written key=value"):
        load_recipe(file, ["larger"])


def test_a_model_that_is_not_there_cannot_be_grown_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grows_from=.*no model is there"):
        new_model(recipe(grows_from=tmp_path / "nothing"))
