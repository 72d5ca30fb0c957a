"""Text to token ids and back, chat templates, and the one place that decides which ids to train."""

from m2m.tokenizer.prompt_boundary import Formatter, Segment
from m2m.tokenizer.template import ChatTemplate, Message, plain_source
from m2m.tokenizer.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "Formatter",
    "Message",
    "Segment",
    "Tokenizer",
    "plain_source",
]
