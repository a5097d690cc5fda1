"""Small tokenizers with the chat templates of several model families."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rollout.transcript import ChatTokens

_LOOP = "{% for m in messages %}"
TEMPLATES = {
    "ChatML": _LOOP + "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "headers and trimming": "<|bos|>"
    + _LOOP
    + "<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}",
    "a system message of its own": "<|bos|><|im_start|>system\nBe brief.<|im_end|>\n" + _LOOP + "<|im_start|>"
    "{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "instruction brackets": "<|bos|>" + _LOOP + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}",
    "thoughts are dropped from the past": _LOOP + "<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
_SPECIAL = ["<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>"]


def byte_tokenizer(template: str) -> Any:
    """One token for each byte, besides the special ones."""
    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|im_end|>",
        extra_special_tokens=_SPECIAL[2:],
    )
    wrapped.chat_template = template
    return wrapped


def chat_tokens(template: str = TEMPLATES["ChatML"]) -> ChatTokens:
    """The template as tokens."""
    tokenizer = byte_tokenizer(template)
    return ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])
