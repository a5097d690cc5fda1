"""The command that makes the base model, at a hundredth of its size and duration."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cluster.errors import ConfigError
from rollout.transcript import ChatTokens
from study.nano.base import make_base
from study.nano.recipe import BaseRecipe, load_recipe

BASES = Path(__file__).parents[2] / "configs" / "nano" / "bases"


def small_recipe() -> BaseRecipe:
    recipe = load_recipe(BASES / "gp_l.yaml")
    return BaseRecipe.model_validate(
        recipe.model_dump(mode="json")
        | {
            "shape": {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2},
            "stages": [
                {"lessons": stage.lessons, "steps": steps, "learning_rate": 4e-3, "warmup_steps": 2}
                for stage, steps in zip(recipe.stages, (20, 3), strict=True)
            ],
            "batch_size": 8,
        }
    )


def test_a_small_base_learns_is_the_same_again_and_loads(tmp_path: Path) -> None:
    lines: list[str] = []
    num_threads = torch.get_num_threads()
    for name in ("once", "again"):
        make_base(small_recipe(), tmp_path / name, show=lines.append)
    assert torch.get_num_threads() == num_threads
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]
    # Nothing known of 686 tokens is 6.5; these are the means over the first stage, and over the three steps behind it.
    assert 6.5 > losses[0] > losses[1] + 0.2
    once, again = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("once", "again"))
    assert all(torch.equal(one, other) for one, other in zip(once.parameters(), again.parameters(), strict=True))
    assert once.config.max_position_embeddings == 512
    chat = ChatTokens.load(tmp_path / "once")
    assert chat.words(chat.opening("Make 24", 0)) == "<bos><user>Make 24<assistant>"


@pytest.mark.parametrize("file", sorted(BASES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_recipe_can_be_read(file: Path) -> None:
    recipe = load_recipe(file)
    assert all(recipe.teachers(stage)[0].wordings() for stage in recipe.stages)


def test_faults_of_a_recipe_are_told_by_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("stages: [{steps: 0, learning_rate: 1e-3, lessons: {}}]\nsize: 3\n")
    with pytest.raises(ConfigError, match=r"stages\.0\.steps(.|\n)*size"):
        load_recipe(wrong)
