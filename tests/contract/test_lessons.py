"""Lessons over every environment: they teach what the verifier calls right, of the training split, as the seed says."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.config import load_config
from envs.catalog import make_environment
from envs.lessons import DialogueTeacher, load_teacher
from rollout.transcript import ChatTokens
from study.nano.lessons import lesson_row
from study.nano.tokenizer import build_nano_tokenizer
from verifier.config import VerifierConfig

# A mixture has no lessons of its own: a recipe mixes those of its parts.
CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "envs").glob("*.yaml"))
CONFIGS = [file for file in CONFIGS if file.stem != "mixture"]
FAST = {"route_navigation_pictures": {"city": {"num_routes": 4, "panorama_width": 128}, "image_size": 64}}


def teacher_of(file: Path, **lessons: Any) -> DialogueTeacher:
    """The lessons of an environment as its file has it; small pictures, where it draws any."""
    env = load_config([file]).env.model_dump(mode="json", exclude_unset=True)
    return load_teacher(env | FAST.get(file.stem, {}), lessons)


@pytest.fixture(params=CONFIGS, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_right_answers_are_learned_and_are_right(file: Path) -> None:
    teacher = teacher_of(file, revised_fraction=0.5)
    verifier = make_environment(teacher.env, VerifierConfig()).verifier
    lengths = set()
    for number in range(24):
        lesson = teacher.lesson(str(number))
        verdicts = [verifier.judge(turn.answer, lesson.reference) for turn in lesson.turns]
        assert [turn.is_learned for turn in lesson.turns] == [verdict.correct for verdict in verdicts]
        assert verdicts[-1].correct
        lengths.add(len(lesson.turns))
    assert len(lengths) > 1


def test_mixed_answers_are_learned_whatever_they_are_until_one_is_right(file: Path) -> None:
    teacher = teacher_of(file, answers="mixed", right_chance=0.3, max_turns=2, last_is_right=True)
    verifier = make_environment(teacher.env, VerifierConfig()).verifier
    num_wrong = 0
    for number in range(24):
        lesson = teacher.lesson(str(number))
        verdicts = [verifier.judge(turn.answer, lesson.reference) for turn in lesson.turns]
        assert all(turn.is_learned for turn in lesson.turns)
        assert [verdict.correct for verdict in verdicts] == [False] * (len(verdicts) - 1) + [True]
        num_wrong += len(verdicts) - 1
    assert 4 < num_wrong < 24


def test_the_seed_decides_the_lesson(file: Path) -> None:
    first, second = (teacher_of(file, answers="mixed") for _ in range(2))
    lessons = [first.lesson(str(seed)).turns for seed in range(12)]
    again = [second.lesson(str(seed)).turns for seed in reversed(range(12))]
    assert [_said(turns) for turns in lessons] == [_said(turns) for turns in reversed(again)]
    assert len({turns[0].question + str(_pixels(turns)) for turns in lessons}) > 6


def _said(turns: Any) -> list[Any]:
    return [(turn.question, turn.answer, turn.is_learned, _pixels((turn,))) for turn in turns]


def _pixels(turns: Any) -> list[bytes]:
    return [image.tobytes() for turn in turns for image in turn.images]


def test_its_tokenizer_says_everything_in_few_tokens_and_gives_it_back(file: Path) -> None:
    teacher = teacher_of(file, answers="mixed")
    tokenizer: Any = build_nano_tokenizer([teacher])
    for number in range(12):
        for turn in teacher.lesson(str(number)).turns:
            for text in (turn.question, turn.answer):
                token_ids = tokenizer(text)["input_ids"]
                assert tokenizer.decode(token_ids) == text
                assert len(token_ids) < max(40, len(text) / 3)


def test_a_document_is_learned_but_for_its_first_token(file: Path) -> None:
    if "pictures" in file.stem:
        pytest.skip("a picture needs a processor; see the tests of nano models with eyes")
    teacher = teacher_of(file, answers="mixed")
    tokenizer: Any = build_nano_tokenizer([teacher])
    chat = ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])
    row = lesson_row(teacher.lesson("0"), chat, "documents")
    assert row.is_learned.tolist() == [False] + [True] * (len(row.token_ids) - 1)


def test_an_option_that_lessons_do_not_have_is_refused(file: Path) -> None:
    with pytest.raises(ValidationError, match="answer"):
        teacher_of(file, answer="right")


def test_what_varies_is_drawn_as_often_as_it_stands_there() -> None:
    (add_up,) = [file for file in CONFIGS if file.stem == "add_up"]
    teacher = teacher_of(add_up, vary={"largest": [9, 9, 9, 10**6]})
    configs: list[Any] = [teacher.draw_environment(Random(seed)).config for seed in range(400)]
    drawn = [config.largest for config in configs]
    assert 0.68 < drawn.count(9) / 400 < 0.82
