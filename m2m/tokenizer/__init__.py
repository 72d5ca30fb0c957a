"""Text to token ids and back, chat templates, and the one place that decides what is trained on."""

from m2m.tokenizer.bpe import Tokenizer
from m2m.tokenizer.chat import ChatTemplate, Formatter, Message, Segment

__all__ = ["ChatTemplate", "Formatter", "Message", "Segment", "Tokenizer"]
