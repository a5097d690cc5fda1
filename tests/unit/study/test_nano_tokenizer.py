"""The nano tokenizer: any text comes back, numbers and choices are tokens of their own, and dialogues are short."""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from cluster.config import load_config
from envs._routes.compass import COMPASS_WORDS, SIDE_WORDS, TURN_WORDS
from envs.catalog import make_environment
from rollout.transcript import ChatTokens
from study.nano.tokenizer import LARGEST_NUMBER, SPECIAL_TOKENS, build_nano_tokenizer

REPOSITORY = Path(__file__).parents[3]
OTHER_RULE = ("env.face_cards=eleven_twelve_thirteen", "env.training_face_cards=ten")


@lru_cache(maxsize=1)
def nano() -> PreTrainedTokenizerFast:
    return build_nano_tokenizer()


def tokens(text: str) -> list[str]:
    """The text, cut where its tokens end."""
    return [str(nano().decode([token_id])) for token_id in nano().encode(text)]


def dialogues(name: str, *overrides: str) -> list[tuple[str, str, str]]:
    """Opening question, right answer and next question after a slip, of fifty episodes."""
    config = load_config([REPOSITORY / "configs" / "envs" / f"{name}.yaml"], overrides)
    env = make_environment(config.env, config.verifier)
    found = []
    for seed in range(50):
        episode = env.open(seed, "test")
        opening = episode.first_question()
        slip = episode.mistake(Random(seed))
        retry = episode.next_question(slip, env.verifier.judge(slip, opening.reference))
        assert retry is not None
        found.append((opening.text, opening.expert_answer, retry.text))
    return found


def prompt_length(text: str) -> int:
    message = {"role": "user", "content": text}
    rendered = nano().apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return len(nano().encode(str(rendered)))


pieces = st.deferred(lambda: st.sampled_from([str(nano().decode([token_id])) for token_id in range(len(nano()))]))
wordings = st.lists(st.one_of(st.text(), st.integers(0, 1000).map(str), pieces), max_size=8).map("".join)


@settings(max_examples=300)
@given(wordings)
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert nano().decode(nano().encode(text)) == text


@settings(max_examples=300)
@given(st.data())
def test_no_sampled_tokens_fail_to_decode(data: st.DataObject) -> None:
    token_ids = data.draw(st.lists(st.integers(0, len(nano()) - 1), max_size=40))
    assert isinstance(nano().decode(token_ids), str)


def test_every_token_of_the_vocabulary_but_the_bytes_is_found_in_its_own_text() -> None:
    """A phrase that a longer or an earlier one always shadows would be dead weight."""
    for token_id in range(len(SPECIAL_TOKENS) + 256, len(nano())):
        assert nano().encode(nano().decode([token_id])) == [token_id]


@pytest.mark.parametrize("around", ["{}", "[{}, {}]", "({}*{})/{}-{}+{}={}", "a{}b", "A counts {}.\n", '"{}"', "-{}"])
def test_a_whole_number_is_one_token_wherever_it_stands(around: str) -> None:
    for number in range(LARGEST_NUMBER + 1):
        cut = tokens(around.replace("{}", str(number)))
        assert cut.count(str(number)) == around.count("{}")


def test_longer_numbers_are_spelt_and_share_no_token_with_the_numbers_inside_them() -> None:
    assert tokens("124") == ["124"]
    assert tokens("201") == ["2", "0", "1"]
    assert tokens("1240") == ["1", "2", "4", "0"]
    assert tokens("024") == ["0", "2", "4"]


def test_no_phrase_holds_a_number() -> None:
    for token in nano().get_vocab():
        assert token.isdecimal() or not re.search("[0-9]", token)


def test_an_answer_is_cut_between_its_joints_and_its_choices() -> None:
    assert "|".join(tokens('{"cards": ["A", "10"], "number": [1, 10], "formula": "(1+10)*2=24"}')) == (
        '{"cards": ["|A|", "|10|"], "number": [|1|, |10|], "formula": "|(|1|+|10|)|*|2|=|24|"}'
    )
    for word in (*COMPASS_WORDS, *TURN_WORDS):
        action = f'"current instruction": "Turn left, to face {word}.", "action": "turn_direction({word})"}}'
        assert tokens(action)[-7:] == [word, ".", '", "action": "', "turn_direction(", word, ")", '"}']
    for word in SIDE_WORDS:
        assert tokens(f"Coral Otter Cafe is on your {word}; this is an intersection") == [
            "Coral ",
            "Otter ",
            "Cafe",
            " is on your ",
            word,
            "; this is an intersection",
        ]


@pytest.mark.parametrize(
    ("name", "overrides", "prompt", "answer", "retry"),
    [
        ("general_points", (), 22, 30, 9),
        ("general_points", OTHER_RULE, 26, 30, 9),
        ("general_points", ("env.thinking=true",), 22, 90, 9),
        ("countdown", (), 18, 24, 9),
        ("countdown", ("env.thinking=true",), 18, 90, 9),
        ("add_up", (), 8, 5, 6),
        ("route_navigation", (), 120, 20, 5),
        ("route_navigation", ("env.actions=relative",), 120, 20, 5),
    ],
)
def test_dialogues_are_short(name: str, overrides: tuple[str, ...], prompt: int, answer: int, retry: int) -> None:
    """In tokens at the median, with all that the chat template adds."""
    openings, answers, retries = zip(*dialogues(name, *overrides), strict=True)
    assert median(prompt_length(text) for text in openings) <= prompt
    assert median(len(nano().encode(text)) + 1 for text in answers) <= answer
    assert median(prompt_length(text) for text in retries) <= retry


def test_the_vocabulary_is_small_and_the_special_tokens_come_first() -> None:
    vocabulary = nano().get_vocab()
    assert len(vocabulary) == len(nano()) <= 1000
    assert sorted(vocabulary.values()) == list(range(len(nano())))
    assert tuple(nano().convert_ids_to_tokens(list(range(len(SPECIAL_TOKENS))))) == SPECIAL_TOKENS
    assert (nano().pad_token, nano().bos_token, nano().eos_token) == ("<pad>", "<bos>", "<end>")


def test_the_template_ends_an_answer_with_its_token_and_opens_the_next() -> None:
    dialogue = [{"role": "user", "content": "What is 1 + 2?"}, {"role": "assistant", "content": '{"sum": 3}'}]
    assert nano().apply_chat_template(dialogue, tokenize=False) == (
        '<bos><user>What is 1 + 2?<assistant>{"sum": 3}<end>'
    )
    chat = ChatTokens(nano(), end_token_ids=[SPECIAL_TOKENS.index("<end>")])
    opening = chat.opening("What is 1 + 2?", 0)
    follow_up = chat.follow_up("Again.", 0, after_end_token=True)
    assert nano().decode(opening) == "<bos><user>What is 1 + 2?<assistant>"
    assert nano().decode(follow_up) == "<user>Again.<assistant>"


def test_the_template_refuses_a_role_that_it_has_no_token_for() -> None:
    with pytest.raises(Exception, match="only the roles user and assistant"):
        nano().apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)


def digest(tokenizer: PreTrainedTokenizerFast) -> str:
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def test_another_process_builds_the_same_tokenizer() -> None:
    program = (
        "import hashlib; from study.nano.tokenizer import build_nano_tokenizer as build;"
        "print(hashlib.sha256(build().backend_tokenizer.to_str().encode()).hexdigest())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == digest(nano())


# The library leaves a file open when it loads a tokenizer.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_saved_tokenizer_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    nano().save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert loaded.get_vocab() == nano().get_vocab()
    assert loaded.chat_template == nano().chat_template
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    for question, answer, _ in dialogues("general_points")[:5]:
        assert loaded.encode(question) == nano().encode(question)
        assert json.loads(loaded.decode(loaded.encode(answer))) == json.loads(answer)
