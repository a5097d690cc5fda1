"""Text of strangers in the terminal: it is shown and cannot command it."""

import json
import unicodedata

import pytest

from envs._routes.printable import is_printable, printable
from envs.add_up import Config, Environment
from envs.protocol import OpenEpisode, Question
from rollout.console import play
from verifier.config import VerifierConfig


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x9bm\x7f", r"a\rb\x9bm\x7f"),
        ("\ud83d alone", r"\ud83d alone"),
        ("\u202eesrever", r"\u202eesrever"),
    ],
)
def test_what_commands_a_terminal_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert not is_printable(text)
    assert is_printable(shown)


@pytest.mark.parametrize("text", ["Joe's Café\n\tto the left", "咖啡馆", "दिल्\u200dली", "مقهى", "\u00a0🥨"])
def test_words_of_any_language_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_no_control_character_and_no_surrogate_is_left_out() -> None:
    every_sign = [chr(code) for code in range(0x110000)]
    commanding = {sign for sign in every_sign if unicodedata.category(sign) in ("Cc", "Cs")} - {"\n", "\t"}
    assert not any(is_printable(sign) for sign in commanding)
    printable("".join(every_sign)).encode("utf-8")


class _Hostile:
    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        return json.dumps({"answer": 1}) + "\x1b]0;owned\x07\ud800"


def test_an_answer_of_a_model_cannot_command_the_terminal_of_who_watches() -> None:
    shown: list[str] = []
    environment = Environment(Config(name="add_up"), VerifierConfig())
    play(environment, _Hostile(), seed=0, split="train", show=shown.append, save_pictures=lambda _: [])
    assert any(r"\x1b]0;owned\x07\ud800" in text for text in shown)
    assert all(is_printable(text) for text in shown)
