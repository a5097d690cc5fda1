"""The tokens of a dialogue are the chat template's, and an answer stays as it was sampled."""

import itertools
from pathlib import Path
from random import Random

import pytest

from cluster.config import load_config
from envs.catalog import make_environment
from envs.protocol import OpenEpisode, Question
from rollout.engine import Completion
from rollout.transcript import ChatTokens, TemplateError, Transcript
from tests.support.chat import TEMPLATES, byte_tokenizer, chat_tokens

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "envs").glob("*.yaml"))
TEXT_CONFIGS = [file for file in CONFIGS if "pictures" not in file.stem]
every_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())


def completion(token_ids: list[int]) -> Completion:
    return Completion(token_ids=token_ids, logprobs=[0.0] * len(token_ids), finish="stop", versions=())


def played(chat: ChatTokens, file: Path, seed: int, ended: bool) -> list[tuple[list[dict[str, str]], list[int]]]:
    """(messages, prompt) at every question of an episode that errs at each first attempt."""
    config = load_config([file])
    env = make_environment(config.env, config.verifier)
    episode: OpenEpisode = env.open(seed, "train")
    question: Question | None = episode.first_question()
    transcript, messages, prompts = Transcript(chat), [], []
    while question is not None and len(prompts) < 8:
        if question.starts_new_context:
            transcript, messages = Transcript(chat), []
        messages = [*messages, {"role": "user", "content": question.text}]
        prompt = transcript.show(transcript.delta(question.text, 0), question, episode)
        prompts.append((messages, prompt.token_ids))
        answer = episode.mistake(Random(seed)) if question.attempt == 1 else question.expert_answer
        token_ids = chat.tokenizer(answer, add_special_tokens=False)["input_ids"]
        transcript.hear(completion([*token_ids, min(chat.end_token_ids)] if ended else token_ids))
        messages = [*messages, {"role": "assistant", "content": answer}]
        question = episode.next_question(answer, env.verifier.judge(answer, question.reference))
    return prompts


@every_template
@pytest.mark.parametrize("file", TEXT_CONFIGS, ids=lambda file: file.stem)
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "cut off"])
def test_every_prompt_is_what_the_template_makes_of_the_whole_dialogue(template: str, file: Path, ended: bool) -> None:
    """Whether the end token was sampled or the answer was cut off before it."""
    chat = chat_tokens(template)
    for seed in range(3):
        for messages, token_ids in played(chat, file, seed, ended):
            rendered = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            assert chat.tokenizer.decode(token_ids) == rendered


@every_template
@pytest.mark.parametrize("file", TEXT_CONFIGS, ids=lambda file: file.stem)
def test_the_tokens_of_a_turn_extend_those_of_the_turn_before(template: str, file: Path) -> None:
    prompts = played(chat_tokens(template), file, 0, ended=True)
    for (earlier_messages, earlier), (messages, token_ids) in itertools.pairwise(prompts):
        if len(messages) > len(earlier_messages):
            assert token_ids[: len(earlier)] == earlier


def test_a_sampled_answer_is_never_tokenised_again() -> None:
    """`ab` sampled as two pieces of one character stays so, although the tokenizer would also know it otherwise."""
    chat = chat_tokens()
    transcript = Transcript(chat)
    asked = (Question(text="q", reference=None, expert_answer=""), None)
    transcript.show(transcript.delta("q", 0), *asked)  # pyright: ignore[reportArgumentType]
    odd = [70, 300 % 256, 71, min(chat.end_token_ids)]
    transcript.hear(completion(odd))
    prompt = transcript.show(transcript.delta("again", 0), *asked)  # pyright: ignore[reportArgumentType]
    opening = chat.opening("q", 0)
    assert prompt.token_ids[len(opening) : len(opening) + len(odd)] == odd


@every_template
def test_words_are_the_answer_without_its_end(template: str) -> None:
    chat = chat_tokens(template)
    token_ids = chat.tokenizer('{"formula": "8÷(3−8/3)"}', add_special_tokens=False)["input_ids"]
    assert chat.words([*token_ids, *chat.end_token_ids]) == '{"formula": "8÷(3−8/3)"}'


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = byte_tokenizer("")
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="has no chat_template"):
        ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])


def test_a_template_that_does_not_write_answers_as_they_are_is_refused() -> None:
    tokenizer = byte_tokenizer("{% for m in messages %}{{ m['content'] | lower }}{% endfor %}")
    with pytest.raises(TemplateError, match="does not write an assistant's message"):
        ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])
