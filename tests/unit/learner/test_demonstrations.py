"""Demonstrations say what the demonstrator says, in the tokens of a rollout, and come back from files as they were."""

import argparse
import asyncio
import dataclasses
import io
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cluster.config import load_config
from cluster.errors import ConfigError
from envs.catalog import find_environment, make_environment
from envs.protocol import Env, EnvConfig
from learner.demonstrations.demonstration import (
    DemonstratedTurn,
    Demonstration,
    DemonstrationConfig,
    DemonstrationError,
    Provenance,
)
from learner.demonstrations.files import (
    DemonstrationFileError,
    pictures_folder,
    read_demonstrations,
    read_header,
    write_demonstrations,
)
from learner.demonstrations.llava import LlavaError, read_llava, write_llava
from learner.demonstrations.make import make_demonstrations, to_episode
from learner.demonstrations.overlap import OverlapError, checked, task_of
from learner.sequence import LABELS, sequences_of
from rollout.config import EngineConfig, RolloutConfig
from rollout.episode import Episode, Turn
from rollout.play import Task, play_tasks
from rollout.scripted_engine import Script, ScriptedEngine, Suboptimal, expert
from rollout.traffic import Traffic
from rollout.transcript import ChatTokens, Expansion
from study.commands.data import add_arguments, write_data
from tests.support.chat import TEMPLATES, byte_tokenizer, chat_tokens
from verifier.arithmetic import parse_equation
from verifier.config import VerifierConfig
from verifier.protocol import Verdict
from verifier.solver import difficulty

CONFIGS = Path(__file__).parents[3] / "configs"
CHAT = chat_tokens()
TEXT = ("add_up", "countdown", "general_points", "route_navigation")
PICTURES = ("general_points_pictures", "env.look.size=112")
PICTURE_TEMPLATE = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{% for part in m['content'] %}{{ '<|head|>' if part['type'] == 'image' else part['text'] }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@lru_cache
def environment(name: str, *overrides: str) -> Env:
    config = load_config([CONFIGS / "envs" / f"{name}.yaml"], overrides)
    return make_environment(config.env, config.verifier)


def check_against_evaluation(demonstrations: Iterable[Demonstration], env_config: EnvConfig) -> int:
    """How many distinct tasks were checked."""
    return len({task_of(demonstration) for demonstration in checked(demonstrations, env_config)})


def demonstrations(env: Env, **options: Any) -> list[Demonstration]:
    return list(make_demonstrations(env, DemonstrationConfig(**{"count": 6, **options})))


@lru_cache
def picture_chat() -> ChatTokens:
    """A chat with eyes, of which only the tokens matter: `<|head|>` is the placeholder of a picture."""
    tokenizer = byte_tokenizer(PICTURE_TEMPLATE)
    placeholder = tokenizer.convert_tokens_to_ids("<|head|>")
    chat = ChatTokens(
        tokenizer, end_token_ids=[tokenizer.eos_token_id], image_token_id=placeholder, processor=tokenizer
    )
    chat.expanded = lambda size: Expansion(token_ids=(placeholder,), traffic=Traffic())
    return chat


def played(env: Env, script: Script, num: int, chat: ChatTokens = CHAT) -> list[Episode]:
    """What a rollout by script records."""
    config = RolloutConfig(max_answer_tokens=1000, engine=EngineConfig(max_context_tokens=100_000))
    tasks = [Task(seed=seed) for seed in range(num)]

    async def collect() -> list[Episode]:
        return [episode async for episode in play_tasks(env, ScriptedEngine(chat, script), chat, tasks, config)]

    return sorted(asyncio.run(collect()), key=lambda episode: episode.seed)


def facts(turn: Turn) -> dict[str, Any]:
    """All that a turn records, in a form that can be compared."""
    recorded = {field.name: getattr(turn, field.name) for field in dataclasses.fields(turn)}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in recorded.items()}


def all_facts(episode: Episode) -> Any:
    turns = [facts(turn) for turn in episode.turns]
    return (episode.env, episode.seed, episode.split, episode.end, dict(episode.pictures), turns)


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TEXT)
def test_an_expert_demonstration_is_the_episode_that_a_rollout_of_the_expert_records(name: str) -> None:
    env = environment(name)
    made = [to_episode(demonstration, CHAT) for demonstration in demonstrations(env)]
    assert list(map(all_facts, made)) == list(map(all_facts, played(env, expert, 6)))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_imitated_mistakes_are_turns_of_their_own_in_every_template(template: str) -> None:
    env, chat = environment("general_points"), chat_tokens(template)
    made = demonstrations(env, kind="suboptimal", num_mistakes=2, imitates_mistakes=True, count=2)
    assert [all_facts(to_episode(one, chat)) for one in made] == list(
        map(all_facts, played(env, Suboptimal(2), 2, chat))
    )


@pytest.mark.parametrize("name", ["general_points", "countdown", "add_up"])
def test_mistakes_that_are_only_shown_stand_before_the_answer_in_the_same_dialogue(name: str) -> None:
    env = environment(name)
    for demonstration, episode in zip(
        demonstrations(env, kind="suboptimal", num_mistakes=2), played(env, Suboptimal(2), 6), strict=True
    ):
        assert [turn.is_learned for turn in demonstration.turns] == [False, False, True]
        (turn,) = to_episode(demonstration, CHAT).turns
        whole = [
            token for one in episode.turns for part in (one.shown_token_ids, one.sampled_token_ids) for token in part
        ]
        assert [*turn.shown_token_ids, *turn.sampled_token_ids] == whole
        assert turn.sampled_token_ids.tolist() == episode.turns[-1].sampled_token_ids.tolist()
        assert (turn.verdict.correct, turn.starts_new_context, turn.attempt) == (True, True, 3)


def test_a_route_shows_each_mistake_only_at_its_own_step() -> None:
    env = environment("route_navigation")
    for demonstration, episode in zip(
        demonstrations(env, kind="suboptimal", count=3), played(env, Suboptimal(1), 3), strict=True
    ):
        made = sequences_of(to_episode(demonstration, CHAT), CHAT)
        rolled_out = sequences_of(episode, CHAT)
        assert [one.token_ids.tolist() for one in made] == [one.token_ids.tolist() for one in rolled_out]
        assert all(
            0 < one.is_sampled.sum() < whole.is_sampled.sum() for one, whole in zip(made, rolled_out, strict=True)
        )


def test_pictures_have_the_digests_and_placeholders_of_a_rollout() -> None:
    env, chat = environment(*PICTURES), picture_chat()
    made = demonstrations(env, count=2)
    assert [all_facts(to_episode(one, chat)) for one in made] == list(map(all_facts, played(env, expert, 2, chat)))
    shown = to_episode(demonstrations(env, kind="suboptimal", count=1)[0], chat).turns[0]
    assert len(shown.images) == shown.shown_token_ids.tolist().count(chat.image_token_id) == 1


def test_a_model_without_eyes_is_shown_no_pictures() -> None:
    with pytest.raises(DemonstrationError, match="general_points/train/0 shows pictures, which this model cannot see"):
        to_episode(demonstrations(environment(*PICTURES), count=1)[0], CHAT)


@pytest.mark.parametrize("answer", ["over <|im_end|> and out", "a picture <|head|>"])
def test_an_answer_that_no_tokens_stand_for_is_refused(answer: str) -> None:
    demonstration = spoken("What?", answer)
    with pytest.raises(DemonstrationError, match=r"add_up/train/0: the tokenizer does not give the answer .* back"):
        to_episode(demonstration, picture_chat())


# ── kinds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TEXT)
def test_mistakes_may_come_by_chance_and_the_last_answer_is_always_right(name: str) -> None:
    made = demonstrations(environment(name), kind="suboptimal", mistake_probability=0.5, count=20)
    attempts = [turn.attempt for demonstration in made for turn in demonstration.turns if turn.is_learned]
    assert {1, 2} == set(attempts)
    assert all(turn.verdict.correct == turn.is_learned for demonstration in made for turn in demonstration.turns)


def test_mistakes_that_leave_no_attempt_are_refused() -> None:
    with pytest.raises(DemonstrationError, match=r"data\.num_mistakes=5 leaves no attempt of env\.max_attempts=5"):
        demonstrations(environment("add_up"), kind="suboptimal", num_mistakes=5)


def test_whoever_reads_words_alone_draws_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(*PICTURES)
    words = [[turn.answer for turn in one.turns] for one in demonstrations(env)]
    monkeypatch.setattr("envs.general_points.draw_hand", lambda *look: 1 / 0)
    made = list(make_demonstrations(env, DemonstrationConfig(count=6), draws=False))
    assert [[turn.answer for turn in one.turns] for one in made] == words
    assert not any(one.pictures or turn.images for one in made for turn in one.turns)
    with pytest.raises(ZeroDivisionError):
        demonstrations(env)


def test_tasks_that_are_never_solved_end_the_search_for_others() -> None:
    """A teacher-forced route goes on after a mistake, so that the right answer never follows it."""
    env = environment("route_navigation", "env.teacher_forced=true")
    with pytest.raises(DemonstrationError, match=r"data\.kind=suboptimal leaves 20 tasks in a row unsolved"):
        demonstrations(env, kind="suboptimal")


def test_tasks_that_the_demonstrator_does_not_solve_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment("add_up", "env.largest=30")
    judge = env.verifier.judge

    def judge_but_even_sums(answer: str, reference: Any) -> Verdict:
        verdict = judge(answer, reference)
        return dataclasses.replace(verdict, correct=verdict.correct and int(reference.value) % 2 == 0)

    monkeypatch.setattr(env.verifier, "judge", judge_but_even_sums)
    made = demonstrations(env)
    assert len(made) == 6
    assert [one.seed for one in made] != list(range(6))
    assert all(json.loads(one.turns[0].answer)["sum"] % 2 == 0 for one in made)


@pytest.mark.parametrize("name", ["general_points", "countdown"])
def test_a_search_trace_is_judged_correct_and_all_it_says_is_true(name: str) -> None:
    for demonstration in demonstrations(environment(name), kind="search_trace", count=40):
        (turn,) = demonstration.turns
        thought, _, answer = turn.answer.partition("\n")
        assert turn.verdict.correct
        assert set(json.loads(answer)) == {"number", "formula", *(["cards"] if name == "general_points" else [])}
        assert turn.verdict.spans[0] == ("reasoning", 0, len(thought))
        for a, sign, b, value in re.findall(r"Start with (\d+)([-+*])(\d+) = (\d+):", thought):
            assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign] == int(value)
        for formula, value in re.findall(r"Try (\S+) = (\S+),", thought):
            assert parse_equation(formula).value == Fraction(value)
        assert thought.count("Check: ") == 1


def test_the_search_for_a_hard_hand_meets_a_dead_end() -> None:
    made = demonstrations(environment("general_points"), kind="search_trace", count=60)
    hard = [one for one in made if difficulty(one.numbers, 24) == 1]
    assert len(hard) > 3
    assert all("cannot make 24." in one.turns[0].answer for one in hard)


def test_a_search_before_the_json_is_labelled_as_reasoning() -> None:
    (sequence,) = sequences_of(
        to_episode(demonstrations(environment("countdown"), kind="search_trace", count=1)[0], CHAT), CHAT
    )
    labels = [LABELS[label] for label in sequence.labels[sequence.is_sampled]]
    assert labels[0] == "reasoning"
    assert labels.count("action") > 5


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("add_up", (), "needs a hand to search"),
        ("route_navigation", (), "needs a hand to search"),
        (PICTURES[0], (PICTURES[1], "env.asks=cards"), r"env\.asks=solution"),
        ("countdown", ("env.thinking=true",), r"use data\.kind=expert or env\.thinking=false"),
    ],
)
def test_a_search_trace_needs_a_hand_and_room_for_the_search(
    name: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DemonstrationError, match=message):
        demonstrations(environment(name, *overrides), kind="search_trace")


def test_corruption_strikes_the_stated_share_and_a_greater_one_strikes_the_same_and_more() -> None:
    env = environment("add_up")
    struck = {
        fraction: {
            one.seed
            for one in demonstrations(env, kind="corrupted", corrupted_fraction=fraction, count=400)
            if one.provenance.is_corrupted
        }
        for fraction in (0.0, 0.1, 0.3, 1.0)
    }
    assert not struck[0.0]
    assert len(struck[1.0]) == 400
    # Four standard deviations of a binomial.
    assert abs(len(struck[0.1]) - 40) < 4 * 6.0
    assert abs(len(struck[0.3]) - 120) < 4 * 9.2
    assert struck[0.1] < struck[0.3]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("add_up", "wrong"), ("countdown", "wrong_value"), ("general_points", "wrong_value"), ("route_navigation", "")],
)
def test_a_wrong_value_is_right_in_form_and_the_episode_goes_on_as_if_it_were_right(name: str, outcome: str) -> None:
    env = environment(name)
    made = demonstrations(env, kind="corrupted", corrupted_fraction=1.0)
    for one, right in zip(made, demonstrations(env), strict=True):
        assert [turn.question for turn in one.turns] == [turn.question for turn in right.turns]
        assert all(turn.is_learned and not turn.verdict.correct for turn in one.turns)
        assert all(turn.verdict.checks["readable"] for turn in one.turns)
        assert not outcome or {turn.verdict.outcome for turn in one.turns} == {outcome}


@pytest.mark.parametrize("name", TEXT)
def test_a_scrambled_answer_has_the_words_of_the_right_one_and_is_wrong(name: str) -> None:
    env = environment(name)
    made = demonstrations(env, kind="corrupted", corrupted_fraction=1.0, corruption="scrambled", count=3)
    for one, right in zip(made, demonstrations(env, count=3), strict=True):
        for turn, right_turn in zip(one.turns, right.turns, strict=True):
            assert not turn.verdict.correct
            assert sorted(turn.answer.split(" ")) == sorted(right_turn.answer.split(" "))


@pytest.mark.parametrize("name", ["countdown", "route_navigation"])
def test_a_scrambled_thought_leaves_the_answer_right(name: str) -> None:
    env = environment(name, "env.thinking=true")
    options = {"kind": "corrupted", "corrupted_fraction": 1.0, "corruption": "scrambled_thought", "count": 2}
    for one, right in zip(demonstrations(env, **options), demonstrations(env, count=2), strict=True):
        for turn, right_turn in zip(one.turns, right.turns, strict=True):
            made, meant = json.loads(turn.answer), json.loads(right_turn.answer)
            assert turn.verdict.correct
            assert made.pop("thinking") != meant.pop("thinking")
            assert made == meant
    with pytest.raises(DemonstrationError, match=r"set env\.thinking=true"):
        demonstrations(environment(name), **options)


def test_recognition_asks_for_the_cards_of_the_same_hands_alone() -> None:
    env = environment(*PICTURES)
    for one, whole in zip(demonstrations(env, kind="recognition"), demonstrations(env), strict=True):
        assert (one.cards, one.turns[0].images) == (whole.cards, whole.turns[0].images)
        assert json.loads(one.turns[0].answer) == {"cards": list(one.cards)}
        assert one.turns[0].verdict.correct
        assert [span.label for span in one.turns[0].verdict.spans] == ["recognition"]
        assert one.provenance.source != whole.provenance.source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("add_up", "add_up has no pictures to recognise anything in"),
        ("general_points", r"asks=cards needs modality=pictures; .*; set env\.modality=pictures"),
        ("route_navigation", r"asks=recognition needs modality=pictures; .*; set env\.modality=pictures"),
    ],
)
def test_recognition_needs_pictures(name: str, message: str) -> None:
    with pytest.raises(DemonstrationError, match=message):
        demonstrations(environment(name), kind="recognition")


def test_equal_options_make_equal_demonstrations_from_whichever_seed() -> None:
    env = environment("general_points")
    whole = demonstrations(env, kind="corrupted", count=8)
    assert whole[5:] == demonstrations(env, kind="corrupted", count=3, first_seed=5)


def test_making_demonstrations_loads_no_heavy_library() -> None:
    program = (
        "import sys, study.commands.data\n"
        "from envs.add_up import Config, Environment\n"
        "from learner.demonstrations.demonstration import DemonstrationConfig\n"
        "from learner.demonstrations.make import make_demonstrations\n"
        "from verifier.config import VerifierConfig\n"
        "env = Environment(Config(name='add_up'), VerifierConfig())\n"
        "assert len(list(make_demonstrations(env, DemonstrationConfig(kind='suboptimal', count=2)))) == 2\n"
        "print([name for name in ('torch', 'transformers', 'vllm', 'ray', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=CONFIGS.parent, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def spoken(question: str, answer: str, **options: Any) -> Demonstration:
    """A demonstration made by hand."""
    verdict = Verdict(outcome="correct", correct=True, reward=1.0, feedback="", checks={})
    turn = DemonstratedTurn(question=question, answer=answer, starts_new_context=True, verdict=verdict)
    whole: dict[str, Any] = {"env": "add_up", "split": "train", "seed": 0, "turns": (turn,), **options}
    return Demonstration(provenance=Provenance(kind="expert", source="0" * 64), **whole)


def changed(path: Path, change: Callable[[list[str]], None]) -> Path:
    """The file with its lines changed in place."""
    lines = path.read_text(encoding="utf-8").splitlines()
    change(lines)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def put(number: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(number - 1, text)


def test_a_file_gives_back_what_was_written_with_its_provenance(tmp_path: Path) -> None:
    written = [
        *demonstrations(environment("general_points"), kind="suboptimal"),
        *demonstrations(environment("route_navigation"), count=2),
        *demonstrations(environment(*PICTURES), count=2),
    ]
    path = tmp_path / "new" / "demos.jsonl"
    header = write_demonstrations(path, written, {"env": {"name": "general_points"}})
    assert list(read_demonstrations(path)) == written
    assert read_header(path) == header
    assert (header.number, header.kind) == (10, "suboptimal, expert")
    assert header.config == {"env": {"name": "general_points"}}
    assert "pydantic" in header.versions
    assert sorted(file.name for file in path.parent.iterdir()) == ["demos.jsonl", "demos.jsonl.pictures"]
    config = DemonstrationConfig(file=str(path), count=1)
    assert list(make_demonstrations(environment("add_up"), config)) == written


def test_writing_again_leaves_no_picture_of_before_and_a_failure_leaves_everything(tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    old, new = demonstrations(environment(*PICTURES), count=2)
    write_demonstrations(path, [old], {})

    def fail() -> Any:
        yield new
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_demonstrations(path, fail(), {})
    assert list(read_demonstrations(path)) == [old]
    assert len(list(tmp_path.iterdir())) == 2
    write_demonstrations(path, [new], {})
    assert [file.stem for file in pictures_folder(path).iterdir()] == list(new.pictures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, '{"env": "add_up"}'), "line 1: is no header of demonstrations"),
        (put(3, '{"env": "add_up", "split"'), "line 3: Invalid JSON"),
        (
            put(3, '{"env": "add_up", "split": "trian", "seed": 1, "turns": []}'),
            "line 3: split: Input should be 'train'",
        ),
        (lambda lines: lines.pop(2), "holds 2 demonstrations where line 1 announces 3"),
        (lambda lines: lines.__setitem__(2, lines[1]), "was changed since it was written"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_the_fix(
    tmp_path: Path, change: Callable[[list[str]], None], message: str
) -> None:
    path = tmp_path / "demos.jsonl"
    write_demonstrations(path, demonstrations(environment("add_up"), count=3), {})
    with pytest.raises(DemonstrationFileError, match=rf"demos\.jsonl.*{message}.*write the file again with"):
        list(read_demonstrations(changed(path, change)))


def test_an_unknown_key_or_a_missing_file_or_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    with pytest.raises(DemonstrationFileError, match=r"no such file; write it with `ruleshift data"):
        list(read_demonstrations(path))
    write_demonstrations(path, demonstrations(environment(*PICTURES), count=1), {})
    (picture,) = pictures_folder(path).iterdir()
    picture.write_bytes(b"no picture")
    with pytest.raises(DemonstrationFileError, match=rf"line 2: its picture .*{picture.name} is damaged; copy"):
        list(read_demonstrations(path))
    picture.unlink()
    with pytest.raises(DemonstrationFileError, match=r"is not there; copy the folder demos\.jsonl\.pictures"):
        list(read_demonstrations(path))
    changed(path, lambda lines: put(2, lines[1].replace('"seed"', '"sed"'))(lines))
    with pytest.raises(DemonstrationFileError, match=r"line 2: (seed: Field required|sed: )"):
        list(read_demonstrations(path))


# ── the evaluation's tasks ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TEXT)
def test_training_tasks_are_not_in_the_evaluation(name: str) -> None:
    env = environment(name)
    made = demonstrations(env, count=100)
    assert 10 < check_against_evaluation(made, env.config) <= 100


@pytest.mark.parametrize("name", [*TEXT, PICTURES[0]])
def test_a_planted_leak_is_named(name: str) -> None:
    env = environment(name, *(PICTURES[1:] if name == PICTURES[0] else ()))
    leak = demonstrations(env, split="test", count=1, first_seed=3)
    with pytest.raises(OverlapError, match=rf"1 of 4 demonstrations .*: {env.config.name}/test/3"):
        check_against_evaluation([*demonstrations(env, count=3), *leak], env.config)


def test_a_hand_is_held_out_under_every_rule_and_across_environments() -> None:
    """Hands that the wrong rule put into training, and Countdown's numbers, are found by what the splits go by."""
    shifted = environment("general_points", "env.face_cards=eleven_twelve_thirteen")
    evaluation = environment("general_points").config
    with pytest.raises(
        OverlapError, match=r"of 200 demonstrations .*general_points/train/\d+ \(.*\), …; leave them out"
    ):
        check_against_evaluation(demonstrations(shifted, count=200), evaluation)
    kept = environment("general_points", "env.face_cards=eleven_twelve_thirteen", "env.training_face_cards=ten")
    assert check_against_evaluation(demonstrations(kept, count=200), evaluation) > 100
    numbers = demonstrations(environment("countdown"), split="test", count=1)
    with pytest.raises(OverlapError, match="1 of 1"):
        check_against_evaluation(numbers, evaluation)


def test_hands_that_are_held_out_one_by_one_are_found_and_their_numbers_in_other_hands_are_not() -> None:
    by_hand = environment("general_points", "env.split_by=hand")
    assert check_against_evaluation(demonstrations(by_hand, count=200), by_hand.config) > 100
    by_numbers = demonstrations(environment("general_points"), count=200)
    with pytest.raises(OverlapError, match="of 200"):
        check_against_evaluation(by_numbers, by_hand.config)
    plain = demonstrations(environment("general_points", "env.face_cards_as_numbers=true"), count=200)
    assert check_against_evaluation(plain, environment("general_points").config) > 100


def test_without_held_out_tasks_there_is_nothing_to_check() -> None:
    env = environment("add_up", "env.splits=none")
    with pytest.raises(OverlapError, match=r"env\.splits=none holds nothing out"):
        check_against_evaluation(demonstrations(env), env.config)


# ── LLaVA's format ──────────────────────────────────────────────────────────────────────────────────────────────────

HUMAN = {"from": "human", "value": "<image>\nMake 24 out of the 4 cards."}
GPT = {
    "from": "gpt",
    "value": "{\"cards\": ['7', '5', 'K', '4'], \"number\": [7, 5, 10, 4], \"formula\": \"(7-5)*10+4=24\"}",
}
AGAIN = [{"from": "human", "value": "And now?"}, {"from": "gpt", "value": '{"cards": ["A", "2"]}'}]


def llava(folder: Path, *items: Any) -> Path:
    """The file of these items, with a picture beside it."""
    content = io.BytesIO()
    Image.new("RGBA", (8, 8), "red").save(content, format="PNG")
    (folder / "hand.png").write_bytes(content.getvalue())
    path = folder / "llava.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def test_dialogues_are_imported_with_their_pictures_and_the_parts_of_their_answers(tmp_path: Path) -> None:
    env = environment(*PICTURES)
    path = llava(
        tmp_path,
        {"id": "x", "image": "hand.png", "conversations": [HUMAN, GPT]},
        {"image": None, "conversations": [{"from": "human", "value": "Make 24."}, GPT, *AGAIN]},
        {"image": ["hand.png", "hand.png"], "conversations": [HUMAN, GPT, HUMAN, GPT]},
    )
    first, second, third = read_llava(path, env)
    assert (first.env, first.split, first.seed) == ("general_points", "train", 0)
    assert (first.cards, first.numbers) == (("7", "5", "K", "4"), (7, 5, 10, 4))
    assert first.turns[0].question == "Make 24 out of the 4 cards."
    assert [span.label for span in first.turns[0].verdict.spans] == ["recognition", "reasoning", "action"]
    assert first.turns[0].verdict.outcome == first.provenance.kind == "imported"
    assert first.turns[0].images == tuple(first.pictures)
    assert [turn.starts_new_context for turn in second.turns] == [True, False]
    assert (second.turns[1].answer, second.pictures) == ('{"cards": ["A", "2"]}', {})
    assert [len(turn.images) for turn in third.turns] == [1, 1]
    assert len(to_episode(second, picture_chat()).turns) == 2
    assert [one.provenance.source for one in (first, second)] == [third.provenance.source] * 2
    file = tmp_path / "demos.jsonl"
    write_demonstrations(file, [first, second, third], {})
    assert list(read_demonstrations(file)) == [first, second, third]


def test_an_imported_hand_is_checked_by_the_cards_that_its_answer_names(tmp_path: Path) -> None:
    env = environment("general_points")
    held_out = json.dumps({"cards": env.open(0, "test").first_question().reference.labels})
    conversations = [{"from": "human", "value": "Which cards?"}, {"from": "gpt", "value": held_out}]
    path = llava(tmp_path, {"conversations": AGAIN}, {"conversations": conversations})
    with pytest.raises(OverlapError, match=r"1 of 2 demonstrations .*: general_points/train/1 "):
        check_against_evaluation(read_llava(path, env), env.config)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "item 1: the item: Input should be a valid dictionary"),
        ({"image": 3, "conversations": [HUMAN, GPT]}, "item 1: image: Input should be a valid tuple"),
        ({"conversations": [HUMAN]}, "item 1: conversations: Tuple should have at least 2 items"),
        (
            {"conversations": [{"from": "system", "value": ""}, GPT]},
            "item 1: conversations.0.from: Input should be 'human' or 'gpt'",
        ),
        ({"conversations": [HUMAN, HUMAN]}, "conversations.1.from: is 'human' where it is the turn of 'gpt'; let them"),
        ({"conversations": [*AGAIN, HUMAN]}, "conversations: ends with a question; add the answer"),
        (
            {"conversations": [HUMAN, GPT]},
            "image: names 0 pictures, and the messages hold 1 markers <image>; write one",
        ),
        ({"image": "hand.png", "conversations": AGAIN}, "image: names 1 pictures, and the messages hold 0"),
        (
            {"conversations": [AGAIN[0], {"from": "gpt", "value": "<image>"}]},
            "conversations.1.value: holds <image>, and only a human message",
        ),
        (
            {"image": "none.png", "conversations": [HUMAN, GPT]},
            r"image: .*none\.png cannot be read as a picture \(FileNotFoundError\); copy it there",
        ),
    ],
)
def test_a_faulty_item_is_named_with_its_key_the_rule_and_the_fix(tmp_path: Path, item: Any, message: str) -> None:
    path = llava(tmp_path, {"conversations": AGAIN}, item)
    with pytest.raises(LlavaError, match=rf"llava\.json: item 1: .*{message.removeprefix('item 1: ')}"):
        list(read_llava(path, environment("general_points")))


@pytest.mark.parametrize(
    ("content", "message"), [("{}", "must be a list of items"), ("[", "is not JSON"), (None, "cannot be read")]
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "llava.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(LlavaError, match=message):
        list(read_llava(path, environment("add_up")))


def test_what_is_exported_is_imported_as_the_same_dialogues(tmp_path: Path) -> None:
    for name in (PICTURES[0], "route_navigation"):
        env = environment(name, *(PICTURES[1:] if name == PICTURES[0] else ()))
        made = demonstrations(env, count=2)
        path = tmp_path / f"{name}.json"
        num_written = write_llava(path, made)
        imported = list(read_llava(path, env))
        turns = [turn for demonstration in made for turn in demonstration.turns]
        again = [turn for demonstration in imported for turn in demonstration.turns]
        assert num_written == len(imported) == len(turns)
        for turn, same in zip(turns, again, strict=True):
            assert (turn.question, turn.answer) == (same.question, same.answer)
            assert (turn.verdict.spans, len(turn.images)) == (same.verdict.spans, len(same.images))


def test_answers_that_are_only_shown_cannot_be_exported(tmp_path: Path) -> None:
    made = demonstrations(environment("add_up"), kind="suboptimal")
    with pytest.raises(LlavaError, match="add_up/train/0 shows an answer that is not to be imitated"):
        write_llava(tmp_path / "out.json", made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TEXT)
def test_the_parts_of_an_answer_are_the_same_for_every_task(name: str) -> None:
    """Which is why the parts of imported answers are known, though their tasks are not."""
    env = environment(name)
    references = [env.open(seed, "train").first_question().reference for seed in range(8)]
    answers = [env.open(seed, "test").first_question().expert_answer for seed in range(8)]
    for answer, (first, second) in itertools.product(answers, itertools.pairwise(references)):
        assert env.verifier.judge(answer, first).spans == env.verifier.judge(answer, second).spans


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def run(env: Env, out: Path, *arguments: str, **options: Any) -> str:
    """What `ruleshift data` shows."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    shown: list[str] = []
    parsed = parser.parse_args(["config.yaml", str(out), *arguments])
    config = DemonstrationConfig(**{"count": 5, **options})
    assert write_data(env.config, VerifierConfig(), config, parsed, shown.append) == 0
    return "\n".join(shown)


def test_the_command_writes_a_file_and_says_what_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "demos.jsonl"
    env = environment("general_points")
    shown = run(env, out, kind="suboptimal", num_mistakes=2)
    assert shown.startswith(f"{out}: 5 demonstrations of general_points\n")
    assert "kind      suboptimal 5\n" in shown
    assert "15, of which 5 are imitated" in shown
    assert "correct 5" in shown
    assert "5 distinct; none of them is held out for the evaluation" in shown
    assert read_header(out).config["env"]["name"] == "general_points"
    with pytest.raises(ConfigError, match="exists already; add --force"):
        run(env, out)
    assert "expert 5" in run(env, out, "--force")
    assert "imported 5" in run(env, tmp_path / "again.jsonl", "--from-llava", str(_exported(env, tmp_path)))


def _exported(env: Env, folder: Path) -> Path:
    path = folder / "llava.json"
    run(env, path, "--llava")
    return path


def test_the_command_tells_pictures_and_corrupted_answers(tmp_path: Path) -> None:
    shown = run(environment(*PICTURES), tmp_path / "demos.jsonl", kind="corrupted", corrupted_fraction=1.0)
    assert "corrupted 5, 5 corrupted" in shown
    assert f"5 in {tmp_path / 'demos.jsonl.pictures'}" in shown


def test_the_command_writes_no_file_that_leaks_and_none_from_faulty_sources(tmp_path: Path) -> None:
    env = environment("general_points")
    leak = tmp_path / "leak.json"
    write_llava(leak, demonstrations(env, split="test"))
    out = tmp_path / "demos.jsonl"
    with pytest.raises(ConfigError, match="6 of 6"):
        run(env, out, "--from-llava", str(leak))
    with pytest.raises(ConfigError, match="num_mistakes=9 leaves no attempt"):
        run(env, out, kind="suboptimal", num_mistakes=9)
    with pytest.raises(ConfigError, match="no such file"):
        run(env, out, file=str(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="only --from-llava reads pictures"):
        run(env, out, "--images", str(tmp_path))
    with pytest.raises(ConfigError, match="name a file in it"):
        run(env, tmp_path)
    assert not out.exists()
    assert "do not train on them" in run(env, tmp_path / "test.jsonl", split="test")
    unsplit = environment("general_points", "env.splits=none")
    assert "holds nothing out" in run(unsplit, tmp_path / "unsplit.jsonl", "--from-llava", str(leak))


@pytest.mark.parametrize("file", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_makes_demonstrations(file: Path) -> None:
    sections = yaml.safe_load(file.read_text(encoding="utf-8"))
    config = DemonstrationConfig.model_validate({**sections["data"], "count": 2})
    env = make_environment(
        find_environment(sections["env"]["name"]).Config.model_validate(sections["env"]), VerifierConfig()
    )
    made = list(make_demonstrations(env, config))
    assert len(made) == 2
    assert config.kind in file.stem
