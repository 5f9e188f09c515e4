"""Answers that repeat their prompt: full chats beside a prompt, as many preference data sets hold them."""

from __future__ import annotations

from collections.abc import Sequence

from .messages import Message
from .tables.errors import RowError

REPEATED = "answers repeat their prompt, which is used once"
_WORDS = 3
"""Words of a prompt by which an answer's beginning is a repetition and not a coincidence."""
_SYSTEM = ("system", "developer")


def split_repeated(
    prompt: Sequence[Message], answer: Sequence[Message], column: str
) -> tuple[list[Message], list[Message]]:
    """Return the prompt with the earlier turns that only the answer has, and the answer without the prompt.

    Args:
        prompt: The messages before the answer.
        answer: The answer, or the whole chat that ends with it.
        column: The column of the answer, for errors.

    Raises:
        RowError: The answer begins with a chat that does not contain the prompt, or has another system message.
    """
    asked = [message for message in prompt if message["role"] not in _SYSTEM]
    if not answer or answer[0]["role"] in ("assistant", "tool") or not asked:
        return list(prompt), list(answer)
    turns = [message for message in answer if message["role"] not in _SYSTEM]
    size = len(asked)
    starts = range(len(turns) - size)  # at least one turn must follow
    start = next((i for i in starts if all(map(_is_same, turns[i : i + size], asked))), None)
    if start is None:
        if asked[-1]["role"] == "assistant":
            return list(prompt), list(answer)  # the chat continues with the user's turn
        raise RowError(
            f"{column!r} is a chat of its own ({', '.join(m['role'] for m in answer)}) and the prompt is not in it",
            "Remove the field of the prompt if the chats hold it, or correct the rows.",
        )
    given, repeated = ([m for m in chat if m["role"] in _SYSTEM] for chat in (prompt, answer))
    if given and repeated and not (len(given) == len(repeated) and all(map(_is_same, given, repeated))):
        raise RowError(f"{column!r} has another system message than the prompt", "Remove one of them.")
    return [*(given or repeated), *turns[: start + size]], turns[start + size :]


def is_repeated(prompt: str, chosen: str, rejected: str, column: str) -> bool:
    """Return whether both answers of a pair of texts begin with the prompt.

    Raises:
        RowError: They do, but the prompt is so short that this may be a coincidence.
    """
    text = prompt.strip()
    if not text or not all(_starts_with(answer, text) for answer in (chosen, rejected)):
        return False
    if len(text.split()) < _WORDS:
        raise RowError(
            f"both answers begin with the prompt {text!r}, which may be its repetition or a part of the answer",
            f"Remove the prompt from {column!r} and the rejected answers, or drop the rows.",
        )
    return True


def without_repeated(prompt: str, answer: str) -> str:
    """Return an answer without the prompt that it repeats."""
    return answer.lstrip()[len(prompt.strip()) :]


def _starts_with(answer: str, prompt: str) -> bool:
    answer = answer.lstrip()
    following = answer[len(prompt) :]
    return answer.startswith(prompt) and bool(following.strip()) and not (prompt[-1] + following[0]).isalnum()


def _is_same(one: Message, other: Message) -> bool:
    return _key(one) == _key(other)


def _key(message: Message) -> tuple[object, ...]:
    return message["role"], str(message.get("content") or "").strip(), message.get("tool_calls")
