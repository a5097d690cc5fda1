"""A tokenizer for models of a few million parameters: the environments' own wording and JSON, in few tokens.

    lessons ─▶ environments ─▶ dialogues ─▶ phrases ─┐
    whole numbers, words of the environments ────────┴─▶ build_nano_tokenizer()  →  PreTrainedTokenizerFast

      <bos> <user> |Make | 24 | out of the | 4 | cards. Use each card … A counts | 1 |; J, Q and K each count | 10 | …

A token is a byte, a whole number, a word that its environment names (of the city, say), or a phrase that stands between
these. No phrase holds a number, and none in an answer joins a choice to what surrounds it: `turn_direction(` and `left`
are two tokens, and so are `=` and `24`, so that answers under a shifted rule need no token that training has never
shown. The phrases are cut out of dialogues that are played here, so they cannot drift from the wording; of paraphrases,
every line is a phrase. What no token fits is spelt in bytes, so any text comes back as it was.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from envs.catalog import make_environment
from envs.lessons import DialogueTeacher, load_teacher
from envs.protocol import Env, EnvConfig, OpenEpisode, Question
from verifier.config import VerifierConfig

SPECIAL_TOKENS = ("<pad>", "<bos>", "<end>", "<user>", "<assistant>")
PICTURE_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
"""What an Idefics3 marks its pictures with."""
LARGEST_NUMBER = 200
"""Whole numbers up to this are single tokens; greater ones are spelt in digits."""

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{% set said %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "{% endif %}{% endset %}"
    "{% if message['role'] == 'user' %}{{ '<user>' + said }}"
    "{% elif message['role'] == 'assistant' %}{{ '<assistant>' + said + '<end>' }}"
    "{% else %}{{ raise_exception('the nano chat_template knows only the roles user and assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

_NUM_EPISODES, _NUM_ANSWERS = 60, 2000
"""How much of each wording is listened to: at least so many episodes, and of lessons at least so many answers."""
# A run of a formula's signs that holds a digit: a number, a fraction or a whole formula.
_FORMULA = re.compile(r"[-+*/()0-9]*[0-9][-+*/()0-9]*")
_QUOTED_SIGN = r"""(?<=")[AJQK](?=")|(?<=')[^'](?=')"""


@dataclass(slots=True)
class _Dialogues:
    """What was said in several plays of one environment."""

    openings: list[str] = field(default_factory=list)
    """The questions that open a context."""
    retries: list[str] = field(default_factory=list)
    """The questions that follow a wrong answer."""
    answers: list[str] = field(default_factory=list)
    """The right answers."""


def build_nano_tokenizer(
    teachers: Sequence[DialogueTeacher] = (), *, grows: PreTrainedTokenizerFast | None = None, sees: bool = False
) -> PreTrainedTokenizerFast:
    """The tokenizer of what the teachers' lessons say; without any, of all built-in environments in fixed words.

    The same in every process, as long as the wordings stay the same. It `grows` from another by keeping all its tokens
    under their numbers; one that `sees` has an Idefics3's marks of pictures.
    """
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    phrases = _phrases(teachers, _NUM_ANSWERS) if teachers else _phrases(_built_in_teachers(), 0)
    if grows is None:
        numbers = [str(number) for number in range(10, LARGEST_NUMBER + 1)]
        known = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *numbers]
    else:
        known = sorted(grows.get_vocab(), key=grows.get_vocab().__getitem__)
        phrases = sorted({*phrases, *_phrases_known_to(grows)})
    written = [to_bytes.pre_tokenize_str(phrase)[0][0] for phrase in phrases]
    tokens = dict.fromkeys([*known, *(PICTURE_TOKENS if sees else ()), *written])
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    # Without merges a piece of text is either a token as a whole or spelt in bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    # The first alternative that fits is taken, so the longest phrase has to stand first.
    longest_first = sorted(phrases, key=_by_length, reverse=True)
    pieces = "|".join(["[0-9]+", *map(re.escape, longest_first)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pieces), "isolated"), to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>", *(PICTURE_TOKENS if sees else ())],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _built_in_teachers() -> list[DialogueTeacher]:
    """The environments whose fixed wording every nano model reads, with the options that change what is said."""
    thinking = {"thinking": (False, True)}
    return [
        load_teacher({"name": "add_up"}, {}),
        load_teacher({"name": "countdown"}, {"vary": thinking}),
        load_teacher({"name": "general_points"}, {"vary": thinking}),
        load_teacher({"name": "route_navigation"}, {"vary": {**thinking, "actions": ("absolute", "relative")}}),
    ]


def _phrases_known_to(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Its tokens that are neither marks, numbers nor bytes."""
    special = set(tokenizer.all_special_ids)
    texts = [str(tokenizer.decode([token_id])) for token_id in range(len(tokenizer)) if token_id not in special]
    return [text for text in texts if len(text) > 1 and not text.isdecimal()]


def _phrases(teachers: Sequence[DialogueTeacher], num_answers: int) -> list[str]:
    """Every word and phrase that is a token of its own, in alphabetical order."""
    words = frozenset({word for teacher in teachers for word in teacher.words()})
    found = {*words, "="}
    configs: list[EnvConfig] = []
    for config in (config for teacher in teachers for config in teacher.wordings()):
        if config in configs:
            continue
        configs.append(config)
        said = _play(make_environment(config, VerifierConfig()), config.max_attempts, num_answers)
        found |= _phrases_of(said, words, by_line=getattr(config, "wording", "fixed") == "diverse")
    return sorted(phrase for phrase in found if len(phrase) > 1)


def _play(env: Env, max_attempts: int, num_answers: int) -> _Dialogues:
    """Episodes in which every question is answered wrongly while there are attempts left, and then rightly."""
    said = _Dialogues()
    seed = 0
    while seed < _NUM_EPISODES or len(said.answers) < num_answers:
        generator = Random(seed)
        episode = env.open(seed, "train")
        question: Question | None = episode.first_question()
        while question is not None:
            (said.openings if question.attempt == 1 else said.retries).append(question.text)
            said.answers.append(question.expert_answer)
            answer = question.expert_answer
            if question.attempt < max_attempts:
                answer = _wrong_answer(question, episode, generator)
            question = episode.next_question(answer, env.verifier.judge(answer, question.reference))
        seed += 1
    return said


def _wrong_answer(question: Question, episode: OpenEpisode, generator: Random) -> str:
    """A learner's mistake, the right shape filled with a formula that may be none, or nothing at all."""
    kind = generator.choices(("mistake", "formula", "nothing"), (10, 10, 1))[0]
    if kind == "mistake":
        return episode.mistake(generator)
    signs = [f"{generator.randint(1, 13)}{generator.choice('+-*/')}" for _ in range(generator.randint(1, 6))]
    formula = "".join(signs)[:-1]
    if generator.random() < 0.3:
        cut = generator.randint(0, len(formula))
        formula = formula[:cut] + generator.choice((*"+-*/()=x ", "==")) + formula[cut + 1 :]
    return _filled(question.expert_answer, formula) if kind == "formula" else ""


def _phrases_of(said: _Dialogues, words: Collection[str], *, by_line: bool) -> set[str]:
    """What stands between the numbers and the words of these dialogues."""
    # With every value a number, what is left between the numbers are the joints of the JSON.
    joints = _pieces(_filled(answer, "0") for answer in said.answers)
    in_values: set[str] = set()
    known = set(words)
    # The shortest first: an observation is a token, and the same token within a thought that repeats it.
    for piece in sorted(_pieces(v for answer in said.answers for v in _strings(json.loads(answer))), key=_by_length):
        in_values |= _split_at(known, [piece])
        known |= {phrase for phrase in in_values if len(phrase) > 3}
    # What every opening says, such as the list of actions, is one phrase even where it holds words of the city.
    # Paraphrases are cut into lines, lest every pair of them be a phrase.
    openings = [_pieces(text.splitlines(keepends=True) if by_line else [text]) for text in said.openings]
    always = set.intersection(*openings)
    sometimes = set.union(*openings, _pieces(said.retries)) - always
    # A question quotes what an answer repeats; in both it is the same token.
    return joints | in_values | always | _split_at(known, sometimes)


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _pieces(texts: Iterable[str]) -> set[str]:
    """What stands between the numbers and formulas of the texts."""
    return {piece for text in texts for piece in _FORMULA.split(text)}


def _split_at(words: Iterable[str], texts: Iterable[str]) -> set[str]:
    """The words, where they stand in the texts, and what is between them."""
    longest_first = sorted(words, key=_by_length, reverse=True)
    alternatives = "|".join(map(re.escape, longest_first))
    splitter = re.compile(f"{_QUOTED_SIGN}|({alternatives})" if alternatives else _QUOTED_SIGN)
    return {piece for text in texts for piece in splitter.split(text) if piece}


def _filled(answer: str, value: str) -> str:
    """The answer with every string in it replaced, and every number by a nought."""
    return json.dumps(_replaced(json.loads(answer), value))


def _replaced(node: Any, value: str) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(child, value) for key, child in node.items()}
    if isinstance(node, list):
        return [_replaced(child, value) for child in node]
    return value if isinstance(node, str) else 0


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _strings(child)
    elif isinstance(node, str):
        yield node
