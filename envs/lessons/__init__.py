"""Lessons: dialogues from which a model of nano size learns an environment before any training run.

    load_teacher(env, lessons)   →  the environment's own Teacher, or the one that suits any
    teacher.lesson(seed)         →  Lesson of turns: question, pictures, answer, is_learned
    teacher.wordings()           →  the options under which lessons are worded differently; tokenizers listen to them

`envs/lessons/NAME.py` holds two classes, `Lessons` (the options) and `Teacher`, for the environment `NAME`; what it
does not change, it takes from `envs/lessons/dialogue.py`. An environment without such a file has the lessons of that.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from envs.catalog import find_environment
from envs.lessons.dialogue import DialogueTeacher, Lesson, LessonOptions, LessonTurn

__all__ = ["DialogueTeacher", "Lesson", "LessonOptions", "LessonTurn", "load_teacher"]


def load_teacher(env: Mapping[str, Any], lessons: Mapping[str, Any]) -> DialogueTeacher:
    """The teacher of an environment, both given as in a file; raises ValidationError where an option is wrong."""
    name = env.get("name", "")
    config = find_environment(name).Config.model_validate(env)
    module = import_module(f"envs.lessons.{name if find_spec(f'envs.lessons.{name}') else 'dialogue'}")
    return module.Teacher(module.Lessons.model_validate(lessons), config)
