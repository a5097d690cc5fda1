"""What a demonstrator answers, apart from the expert's answer that every question brings along.

mistake(question, episode)        a learner's slip, for dialogues in which it is put right
search_trace(question, …)         tries, dead ends and a check, and then the JSON
corrupted(corruption, question, …)    an answer made worse on purpose
asking_recognition(config)        the same tasks, where only what the picture shows is asked for
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, get_args

from PIL.Image import Image
from pydantic import ValidationError

from envs._cards.hands import demonstrate
from envs.catalog import make_environment
from envs.protocol import Env, EnvConfig, OpenEpisode, Question
from learner.demonstrations.demonstration import DemonstrationConfig, DemonstrationError
from verifier.config import VerifierConfig
from verifier.hand import Hand
from verifier.protocol import Span, Verdict

RIGHT_IN_FORM = frozenset({"wrong_value", "wrong_action", "wrong", "wrong_cards", "wrong_recognition"})
"""The outcomes of answers that have nothing wrong about them but what they say."""

RECOGNITION = frozenset({"cards", "recognition"})
"""Values of an environment's option `asks` under which a question asks only for what is seen."""

MAX_DRAWS = 1000
"""After so many drawn answers without the wanted property, there is taken to be none."""

NUM_THOUGHTS = 50
"""Among so many drawn searches, the first with a dead end is taken; some hands have none."""

Judge = Callable[[str, Any], Verdict]


def answered(
    question: Question, episode: OpenEpisode, config: DemonstrationConfig, env: EnvConfig, judge: Judge, task: str
) -> tuple[str, Verdict]:
    """What the demonstrator that the config names answers, and the verdict on it."""
    if config.kind == "search_trace":
        answer = _search_trace(question, env, Random(f"search/{task}"))
        verdict = judge(answer, question.reference)
        # Verifiers read the fields of the JSON; what stands before them is reasoning too, and weighed as such.
        thought = Span("reasoning", 0, answer.index("\n"))
        return answer, replace(verdict, spans=(thought, *verdict.spans))
    answer = question.expert_answer
    if config.kind == "suboptimal" and question.attempt <= config.num_mistakes:
        chance = Random(f"errs/{task}/{question.step}/{question.attempt}").random()
        if chance < config.mistake_probability:
            # The same slip as that of `rollout.scripted_engine.Suboptimal`, whose imports take seconds.
            answer = episode.mistake(Random(f"0/{question.step}/{question.attempt}/{question.text}"))
    return answer, judge(answer, question.reference)


def corrupted(
    corruption: str, question: Question, episode: OpenEpisode, judge: Judge, generator: Random
) -> tuple[str, Verdict]:
    """A worse answer to the question, and the verdict on it."""
    if corruption == "scrambled_thought":
        answer = _with_scrambled_thought(question.expert_answer, generator)
        return answer, judge(answer, question.reference)
    if corruption == "wrong_value":
        drawn = (episode.mistake(generator) for _ in range(MAX_DRAWS))
        wanted = RIGHT_IN_FORM.__contains__
    else:
        drawn = (_scrambled(question.expert_answer, generator) for _ in range(MAX_DRAWS))
        wanted = "correct".__ne__
    judged = ((answer, judge(answer, question.reference)) for answer in drawn)
    found = next((pair for pair in judged if wanted(pair[1].outcome)), None)
    if found is None:
        raise DemonstrationError(
            f"data.corruption={corruption}: none of {MAX_DRAWS} drawn answers to {question.text[:60]!r}… is of that "
            "kind; choose another corruption"
        )
    return found


def asking_recognition(config: EnvConfig) -> Env:
    """The environment of the same options in which each question asks only for what is seen."""
    option = type(config).model_fields.get("asks")
    choices = sorted(RECOGNITION & set(get_args(option.annotation))) if option else []
    if not choices:
        raise DemonstrationError(
            f"data.kind=recognition: {config.name} has no pictures to recognise anything in; choose another kind"
        )
    try:
        asking = type(config).model_validate({**config.model_dump(mode="json"), "asks": choices[0]})
    except ValidationError as error:
        rule = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DemonstrationError(f"data.kind=recognition: {rule}; set env.modality=pictures") from None
    return make_environment(asking, VerifierConfig())


def digest_of_options(config: EnvConfig) -> str:
    """Equal for equal options, defaults included."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def keep_picture(image: Image, pictures: dict[str, bytes]) -> str:
    """The picture's digest, the same as in a rollout; its bytes are kept once however often it is shown."""
    content = io.BytesIO()
    image.save(content, format="PNG", compress_level=1)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    pictures.setdefault(digest, content.getvalue())
    return digest


def _search_trace(question: Question, config: EnvConfig, generator: Random) -> str:
    """A right answer behind the search that leads to it; every sentence of the search is true.

    `Start with 3+3 = 6: 6, 8, 8 cannot make 24. Try 3*8+3-8 = 19, no. Try 8/(3-8/3) = 24, yes. Check: …`, a new line,
    and the JSON. The wording is that of `env.thinking`, so that a small tokenizer knows it.
    """
    hand = question.reference
    if not isinstance(hand, Hand) or hand.asks != "solution":
        raise DemonstrationError(
            "data.kind=search_trace needs a hand to search: env.name=general_points or countdown, and env.asks=solution"
        )
    expert = json.loads(question.expert_answer)
    if "thinking" in expert:
        raise DemonstrationError(
            "data.kind=search_trace puts a search before the JSON, and env.thinking puts one into it; "
            "use data.kind=expert or env.thinking=false"
        )
    shortest = getattr(config, "demonstration", "shortest") == "shortest"
    fields: dict[str, Any] = {}
    for _ in range(NUM_THOUGHTS):
        fields = json.loads(demonstrate(hand, generator, with_cards="cards" in expert, thinks=True, shortest=shortest))
        if "cannot make" in fields["thinking"]:
            break
    thought = fields.pop("thinking")
    return f"{thought}\n{json.dumps(fields, ensure_ascii=False)}"


def _with_scrambled_thought(answer: str, generator: Random) -> str:
    fields = json.loads(answer)
    if "thinking" not in fields:
        raise DemonstrationError(
            "data.corruption=scrambled_thought needs thoughts in the answers: set env.thinking=true"
        )
    fields["thinking"] = _scrambled(fields["thinking"], generator)
    return json.dumps(fields, ensure_ascii=False)


def _scrambled(text: str, generator: Random) -> str:
    """Its words in random order."""
    words = text.split(" ")
    generator.shuffle(words)
    return " ".join(words)
