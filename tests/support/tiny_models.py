"""Random models of well under a million parameters, in folders that Transformers and vLLM both load.

    make_text_model       a Llama over bytes
    make_picture_model    an Idefics3 over bytes and one small picture size

Both tokenizers know every byte, so any text works. The weights are large enough that a stale one shows: two seeds
differ by more than a nat on most tokens.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

PAD, BEGIN, END = "<pad>", "<begin>", "<end>"
SPECIAL_TOKENS = (PAD, BEGIN, END, "<user>", "<assistant>")
PICTURE = "<image>"
PICTURE_TOKENS = (PICTURE, "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
WEIGHT_SCALE = 0.1

PICTURE_SIZE = 56
PATCH_SIZE = 14
PATCHES_PER_TOKEN_SIDE = 2
NUM_PICTURE_TOKENS = (PICTURE_SIZE // PATCH_SIZE // PATCHES_PER_TOKEN_SIDE) ** 2

CHAT_TEMPLATE = """{{ '<begin>' }}{% for message in messages %}{{ '<' + message['role'] + '>' }}\
{% if message['content'] is string %}{{ message['content'] }}\
{% else %}{% for part in message['content'] %}\
{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}{{ '<end>' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"""


def make_text_model(folder: Path, *, tied: bool, seed: int = 0) -> Path:
    """A Llama of 0.2 M parameters, with or without an output layer of its own."""
    tokenizer = make_tokenizer(SPECIAL_TOKENS)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**language_size(tokenizer), tie_word_embeddings=tied))
    save_model(model, tokenizer, folder)
    return folder


def make_picture_model(folder: Path, seed: int = 0, *, tied: bool = False) -> Path:
    """An Idefics3 that sees pictures of 56 × 56 pixels, each as four tokens."""
    tokenizer = make_tokenizer(SPECIAL_TOKENS + PICTURE_TOKENS)
    torch.manual_seed(seed)
    config = Idefics3Config(
        text_config={"model_type": "llama", "tie_word_embeddings": tied, **language_size(tokenizer)},
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": PICTURE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        scale_factor=PATCHES_PER_TOKEN_SIDE,
        image_token_id=len(SPECIAL_TOKENS) + PICTURE_TOKENS.index(PICTURE),
        pad_token_id=SPECIAL_TOKENS.index(PAD),
        tie_word_embeddings=tied,
    )
    save_model(Idefics3ForConditionalGeneration(config), tokenizer, folder)
    square = {"longest_edge": PICTURE_SIZE}
    image_processor = Idefics3ImageProcessorPil(size=square, max_image_size=square, do_image_splitting=False)
    processor = Idefics3Processor(
        image_processor, tokenizer, image_seq_len=NUM_PICTURE_TOKENS, chat_template=CHAT_TEMPLATE
    )
    processor.save_pretrained(folder)
    return folder


def make_tokenizer(special_tokens: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Special tokens first, then the 256 bytes; nothing is merged."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special_tokens, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[token for token in special_tokens if token not in (PAD, BEGIN, END)],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def language_size(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=WEIGHT_SCALE)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
