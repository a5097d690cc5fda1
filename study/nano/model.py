"""Fresh nano models: a Llama, or an Idefics3 around one, by themselves or grown from a model that can speak already.

recipe, teachers  ─▶  tokenizer  ─▶  NanoModel(model, chat)  ─▶  a Hugging Face folder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from cluster.errors import ConfigError
from envs.lessons import DialogueTeacher
from learner.families import Family, family_of
from rollout.transcript import ChatTokens
from study.nano.recipe import BaseRecipe, Eyes, ModelShape
from study.nano.tokenizer import PICTURE_TOKENS, build_nano_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class NanoModel:
    """A model with what turns dialogues and pictures into its inputs."""

    model: PreTrainedModel
    chat: ChatTokens
    family: Family

    def save(self, folder: Path, dtype: str) -> None:
        """Write it as Transformers and vLLM read it."""
        self.model.to(getattr(torch, dtype)).save_pretrained(folder)
        (self.chat.processor or self.chat.tokenizer).save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)


def new_model(recipe: BaseRecipe, teachers: Sequence[DialogueTeacher] = ()) -> NanoModel:
    """The model of a recipe before its first lesson; the caller seeds torch."""
    language, known_tokens = None, None
    if recipe.grows_from is not None:
        language, known_tokens = _grown_from(recipe.grows_from)
    sees = recipe.eyes is not None
    heard = () if recipe.tokens_of == "built_in" else teachers
    tokenizer: Any = build_nano_tokenizer(heard, grows=known_tokens, sees=sees)
    if language is None:
        language = LlamaForCausalLM(_llama_config(recipe.shape, tokenizer))
    elif len(tokenizer) > language.config.vocab_size:
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model, processor = (language, None) if recipe.eyes is None else _with_eyes(language, recipe.eyes, tokenizer)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    image_token_id = getattr(model.config, "image_token_id", None)
    end = [tokenizer.eos_token_id]
    chat = ChatTokens(
        tokenizer,
        end_token_ids=end,
        image_token_id=image_token_id,
        processor=processor,
        patch_size=1 if recipe.eyes is None else recipe.eyes.patch_size,
    )
    return NanoModel(model=model, chat=chat, family=family_of(model, chat))


def _grown_from(folder: Path) -> tuple[LlamaForCausalLM, Any]:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"grows_from={folder}: no model is there; name a folder that `ruleshift base` has made")
    language = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return language, AutoTokenizer.from_pretrained(folder)


def _llama_config(shape: ModelShape, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=shape.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _with_eyes(language: LlamaForCausalLM, eyes: Eyes, tokenizer: Any) -> tuple[PreTrainedModel, Any]:
    """The language model behind a new vision tower, and the processor that cuts pictures for it."""
    config = Idefics3Config(
        text_config=language.config.to_dict(),
        vision_config={
            "hidden_size": eyes.hidden_size,
            "intermediate_size": eyes.intermediate_size,
            "num_hidden_layers": eyes.num_layers,
            "num_attention_heads": eyes.num_heads,
            "image_size": eyes.image_size,
            "patch_size": eyes.patch_size,
        },
        scale_factor=eyes.patches_per_token_side,
        image_token_id=tokenizer.convert_tokens_to_ids(PICTURE_TOKENS[0]),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    square = {"longest_edge": eyes.image_size}
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size=square, max_image_size=square, do_image_splitting=False),
        tokenizer,
        image_seq_len=eyes.tokens_per_picture,
        chat_template=tokenizer.chat_template,
    )
    return model, processor
