"""A model's processor: what makes its tokens of words, and its pixels of pictures.

Those of models that see films too want torchvision to be loaded, for films alone. None is ever shown here, so where
torchvision is missing the processor is put together without that part.
"""

from pathlib import Path
from typing import Any

from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer

_FILMS = "video_processor"


def load_processor(folder: Path) -> Any:
    """The processor of the model in a folder."""
    try:
        return AutoProcessor.from_pretrained(folder)
    except ImportError as error:
        if "VideoProcessor" not in str(error):
            raise
    kind: Any = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(folder))]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return _without_films(kind)(
        AutoImageProcessor.from_pretrained(folder), tokenizer, None, chat_template=tokenizer.chat_template
    )


def _without_films(kind: type[Any]) -> type[Any]:
    class WithoutFilms(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            is_missing = argument_name == _FILMS and argument is None
            return None if is_missing else super().check_argument_for_proper_class(argument_name, argument)

    return WithoutFilms
