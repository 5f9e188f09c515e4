"""Chats as text by a chat template, with the characters that the loss covers.

The loss covers what the model would generate in each assistant turn: what follows the generation prompt, up to the
end of the turn. Where the template marks that with `{% generation %}`, its marks hold. Elsewhere the spans are found
by rendering: the chat up to a turn with its generation prompt, and the chat through the turn.

Some templates render earlier turns differently from the last one (Qwen3 and DeepSeek-R1 remove their reasoning). The
text is then put together turn by turn, each assistant turn as the template renders it while it is the last, so that
every turn is learned as it is generated. Sentinels in the place of earlier answers show where a turn ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .chat_templates import ChatTemplate, Span
from .forms import EMPTY, Chat
from .messages import Message
from .sequences import shared_length
from .tables.errors import RowError
from .template_fit import content_text, fit_messages, fix_of_refusal, left_out, with_sentinel

LAST_ONLY = (
    "chats of several answers are learned in their last answer only, since the chat template rewrites the text "
    "around earlier ones"
)
NO_CALL = "assistant turns are left out of the loss, since the chat template does not render their tool calls"
NO_PREFIX = (
    "assistant turns are left out of the loss, since the chat template refuses the chat up to them, without the "
    "user's turn that follows"
)
NO_GENERATION_PROMPT = (
    "the loss begins at the text of the answers, since the chat template adds no generation prompt; the header of "
    "their turns is not learned"
)
NO_REASONING = "assistant turns have reasoning that the chat template does not render"


@dataclass(frozen=True)
class Rendered:
    """The text of a chat.

    Args:
        text: The text, with every special token in it.
        spans: The characters that the loss covers, in order.
        is_closed: Whether the text ends with one of the tokenizer's special tokens, if its last turn is learned.
        remarks: What the template left out, for the user.
    """

    text: str
    spans: list[Span]
    is_closed: bool
    remarks: tuple[str, ...]


def render_chat(chat: Chat, template: ChatTemplate) -> Rendered:
    """Return the text of a chat and what the loss covers.

    Raises:
        RowError: The template refuses the chat, or does not show where its last answer begins.
    """
    try:
        rendering = _Rendering(chat, template)
        rendered = rendering.in_place() or rendering.put_together() or rendering.last_only()
        if template.reads_clock and rendering.is_outdated():
            raise RowError(
                "the chat template writes a time that changes while a chat is rendered",
                "Give a template without the time by chat_template.",
            )
        return rendered
    except RowError as error:
        roles = ", ".join(message["role"] for message in chat.messages)
        fix = error.fix or fix_of_refusal(chat.messages, chat.tools, template)
        raise RowError(f"{error.what} (roles: {roles})", fix) from error


class _Rendering:
    """One chat with one template, and the ways to find what the loss covers."""

    def __init__(self, chat: Chat, template: ChatTemplate) -> None:
        self.template, self.tools = template, chat.tools
        self.messages, without_calls = fit_messages(chat.messages, chat.tools, template)
        self.text, self.generated = template.render(self.messages, self.tools)
        self._texts = {len(self.messages) - 1: self.text}
        turns = [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]
        self.turns = [i for i in turns if i == turns[-1] or self._is_rendered(i)]
        self.learned = [
            flag and i in self.turns and i not in without_calls for i, flag in enumerate(chat.learned)
        ]
        self.remarks = [*chat.remarks, *(NO_CALL for i in without_calls if chat.learned[i])]
        self.remarks += [NO_PREFIX for i in turns if i not in self.turns and chat.learned[i]]
        self.remarks += [EMPTY for i, m in enumerate(self.messages) if self.learned[i] and _is_empty(m)]
        self.remarks += left_out(self.messages, self.tools, self.text, template)

    def in_place(self) -> Rendered | None:
        """Return the chat as the template renders it whole; None if earlier turns are not rendered like the last."""
        spans, end = list[list[Span]](), 0
        for turn in self.turns:
            after = self._through(turn)
            if not self.text.startswith(after):
                return None
            start = self._start(self.messages[:turn], after, None, self.messages[turn])
            if start is None:
                return None
            if self.learned[turn]:
                if not self.has_content(self.messages[turn], after, start):
                    return None
                self._note_reasoning(turn, after[start:])
                end = end or self._end_of_skipped(turn)
                marks = [(s, min(e, len(after))) for s, e in self.generated if end <= s < len(after)]
                spans.append(marks or [(start, len(after))])
            end = len(after)
        return self._result(self.text, spans)

    def put_together(self) -> Rendered | None:
        """Return the chat with every assistant turn rendered as the last; None if the text between turns changes."""
        together = _Together(self)
        for turn, message in enumerate(self.messages):
            if turn not in self.turns:
                together.messages.append(message)
            elif not together.add(turn, message):
                return None
        return self._result(together.text, together.spans) if together.finish() else None

    def last_only(self) -> Rendered:
        """Return the chat with its last assistant turn learned, after the prompt that the model is given for it."""
        turn = self.turns[-1]
        after, earlier = self._through(turn), self.messages[:turn]
        probe, _ = self._render([*earlier, with_sentinel(self.messages[turn], _SENTINEL)])
        header, found, _ = probe.partition(_SENTINEL)
        text, start = (self.text if self.text.startswith(after) else after), None
        if found:
            start = self._start(earlier, after, header, self.messages[turn])
        if start is None:
            prompt = self._prompt(earlier)
            place = None if prompt is None else _end_of_same(prompt, header)
            if prompt is not None and place is not None and after.startswith(header):
                text = after = prompt + after[place:]
                start = len(prompt)
            elif found:
                start = shared_length(header, after)
            else:
                raise RowError(
                    "the chat template does not show where the answer begins",
                    "Give another template by chat_template, or drop the rows.",
                )
        if sum(self.learned) > 1:
            self.remarks.append(LAST_ONLY)
        return self._result(text, [[(start, len(after))]] if self.learned[turn] else [])

    def is_outdated(self) -> bool:
        """Return whether the chat is rendered otherwise than before all other renderings."""
        return self._render(self.messages)[0] != self.text

    def _is_rendered(self, turn: int) -> bool:
        try:
            self._through(turn)
        except RowError:
            return False
        return True

    def _through(self, turn: int) -> str:
        """Return the text of the messages through a turn."""
        if turn not in self._texts:
            self._texts[turn], _ = self._render(self.messages[: turn + 1])
        return self._texts[turn]

    def _end_of_skipped(self, turn: int) -> int:
        """Return where the text before a turn ends, if a turn before it is not learned for lack of a rendering."""
        if all(message["role"] != "assistant" for message in self.messages[:turn]):
            return 0
        return shared_length(self._render(self.messages[:turn])[0], self.text)

    def has_content(self, message: Message, after: str, start: int) -> bool:
        """Return whether a turn's content is in its text, of which the generation prompt may hold the beginning."""
        turn = after[max(start - len(self.template.generation_prompt), 0) :]
        return bool(message.get("tool_calls")) or _contains(turn, content_text(message))

    def _render(self, messages: Sequence[Message], *, prompt: bool = False) -> tuple[str, list[Span]]:
        return self.template.render(messages, self.tools, prompt=prompt)

    def _start(
        self, earlier: Sequence[Message], after: str, header: str | None, message: Message
    ) -> int | None:
        """Return where the generated part of a turn begins in `after`, the text through the turn.

        Args:
            earlier: The messages before the turn.
            after: The text of these and of the turn.
            header: The text before the turn's own content, rendered if needed.
            message: The turn.

        Returns:
            The position; None if the template changes the text before the turn.
        """
        prompt = self._prompt(earlier)
        if prompt is not None and after.startswith(prompt):
            return self._end_of_header(earlier, prompt, after)
        if header is None and (header := self._header(earlier, message)) is None:
            return None
        if prompt is None:
            return _end_of_prompt(self.template.generation_prompt, header[: shared_length(header, after)])
        bare, _ = self._render(earlier)
        context = bare[: shared_length(bare, prompt)]
        if not after.startswith(context):
            return None
        return max(len(context), min(len(header), shared_length(prompt, after)))

    def _header(self, earlier: Sequence[Message], message: Message) -> str | None:
        """Return the text before a turn's own content; None if the template does not render the content."""
        probe, _ = self._render([*earlier, with_sentinel(message, _SENTINEL)])
        header, found, _ = probe.partition(_SENTINEL)
        return header if found else None

    def _end_of_header(self, earlier: Sequence[Message], prompt: str, after: str) -> int:
        """Return the end of a turn's prompt, with the header of the turn if the template leaves it out of prompts."""
        if self.template.generation_prompt or self._render(earlier)[0] != prompt:
            return len(prompt)
        empty: Any = [] if self.template.reads_parts else ""
        header = self._header(earlier, {"role": "assistant", "content": empty}) or ""
        end = shared_length(prompt + header[len(prompt) :].partition(_REASONING)[0], after)
        if not after[len(prompt) : end].strip():
            return len(prompt)
        if not self.template.is_marked and NO_GENERATION_PROMPT not in self.remarks:
            self.remarks.append(NO_GENERATION_PROMPT)
        return end

    def _prompt(self, earlier: Sequence[Message]) -> str | None:
        if not earlier:
            return None
        try:
            return self._render(earlier, prompt=True)[0]
        except RowError:
            return None

    def _note_reasoning(self, turn: int, answer: str) -> None:
        if not _contains(answer, self.messages[turn].get("reasoning_content") or ""):
            self.remarks.append(NO_REASONING)

    def _result(self, text: str, spans: Sequence[Sequence[Span]]) -> Rendered:
        closed = [span for turn in spans for span in (*turn[:-1], self._with_end(text, turn[-1]))]
        last = self.learned[-1]
        return Rendered(text, closed, not last or self.template.ends_special(text), tuple(self.remarks))

    def _with_end(self, text: str, span: Span) -> Span:
        """Extend the span of a turn to the special token that ends the turn, if it follows."""
        start, end = span
        if self.template.ends_special(text[start:end]):
            return span
        rest = text[end:]
        blank = len(rest) - len(rest.lstrip())
        token = next((t for t in self.template.special_tokens if rest.startswith(t, blank)), None)
        return span if token is None else (start, end + blank + len(token))


class _Together:
    """The text of a chat put together turn by turn, each assistant turn rendered as the last of its chat."""

    def __init__(self, rendering: _Rendering) -> None:
        self.rendering = rendering
        self.text, self.spans = "", list[list[Span]]()
        self.messages = list[Message]()
        self._originals = dict[str, str]()
        self._contexts = list[tuple[str, str]]()
        self._sentinel, self._closing, self._is_open = "", "", False

    def add(self, turn: int, message: Message) -> bool:
        """Add an assistant turn and the text before it; False if the template changes the text before it."""
        rendering = self.rendering
        sentinel = f"zqturn{turn}zq"
        probe, _ = rendering._render([*self.messages, with_sentinel(message, sentinel)])
        after, generated = rendering._render([*self.messages, message])
        header, found, closing = probe.partition(sentinel)
        start = rendering._start(self.messages, after, header, message)
        if not found or start is None:
            return False
        if not rendering.has_content(message, after, start) and _is_end_of(message, after, header, closing):
            # The template removes the beginning of the answer, its reasoning, even while the turn is the last.
            after, generated = header + content_text(message) + closing, []
            start = rendering._start(self.messages, after, header, message)
            if start is None:
                return False
        place = self._end_of_previous(after)
        if place is None or not after.endswith(closing) or not self._has_contexts(after):
            return False
        self._contexts.append((self._sentinel, after[place : self._end_of_context(after)]))
        place += self._close(after[place:])
        self.text += self._restored(after[place:start])
        begin = len(self.text)
        self.text += after[start : len(after) - len(closing)]
        if rendering.learned[turn]:
            rendering._note_reasoning(turn, after[start:])
            marks = [(begin + max(s - start, 0), begin + e - start) for s, e in generated if e > start]
            self.spans.append(marks or [(begin, begin + len(after) - start)])
        self._is_open = rendering.learned[turn]
        calls = message.get("tool_calls")
        self._originals[sentinel] = calls[-1]["function"]["name"] if calls else content_text(message)
        self.messages.append(with_sentinel(message, sentinel))
        self._sentinel, self._closing = sentinel, closing
        return True

    def finish(self) -> bool:
        """Add the end of the last assistant turn and what follows it; False if it cannot be found."""
        if self.messages[-1]["role"] == "assistant":
            self._close(self._closing)
            return True
        text, _ = self.rendering._render(self.messages)
        place = self._end_of_previous(text)
        if place is None:
            return False
        place += self._close(text[place:])
        self.text += self._restored(text[place:])
        return True

    def _end_of_previous(self, text: str) -> int | None:
        if not self._sentinel:
            return 0
        place = text.find(self._sentinel)
        return None if place < 0 else place + len(self._sentinel)

    def _end_of_context(self, after: str) -> int:
        if not self.messages:
            return 0
        bare, _ = self.rendering._render(self.messages)
        prompt = self.rendering._prompt(self.messages)
        return min(shared_length(after, bare), shared_length(after, after if prompt is None else prompt))

    def _has_contexts(self, after: str) -> bool:
        """Return whether the text between earlier turns is as it was when those turns were the last."""
        return all(
            after.startswith(context, after.find(sentinel) + len(sentinel) if sentinel else 0)
            for sentinel, context in self._contexts
        )

    def _close(self, following: str) -> int:
        """Add the end of the previous turn as far as the following text has it, and return its length."""
        shared = shared_length(self._closing, following)
        for token in self.rendering.template.special_tokens:
            # A common beginning of two special tokens, as of <|end|> and <|return|>, is no part of either.
            place = self._closing.rfind(token, 0, shared + len(token) - 1)
            if 0 <= place < shared < place + len(token):
                shared = place
        self.text += self._closing[:shared]
        if self._is_open:
            clipped = [(start, min(end, len(self.text))) for start, end in self.spans[-1]]
            self.spans[-1] = [span for span in clipped if span[0] < span[1]] or clipped[:1]
        return shared

    def _restored(self, text: str) -> str:
        for sentinel, original in self._originals.items():
            text = text.replace(sentinel, original)
        return text


_SENTINEL = "zqanswerzq"
_REASONING = "<think>"
"""The beginning of reasoning, which the model generates."""
_SAME = 8
"""Characters in which two texts must agree to be at the same place of a chat."""
_LONGEST_LEAD = 64
"""The most characters between a prompt and the content of the answer."""


def _contains(text: str, part: str) -> bool:
    """Return whether the characters of a part occur in a text in their order, white space aside."""
    rest = iter("".join(text.split()))
    return all(sign in rest for sign in "".join(part.split()))


def _is_end_of(message: Message, after: str, header: str, closing: str) -> bool:
    """Return whether what the template rendered of a turn is only the end of its content."""
    body = "".join(after[len(header) :].removesuffix(closing).split())
    return after.startswith(header) and "".join(content_text(message).split()).endswith(body)


def _end_of_same(prompt: str, header: str) -> int | None:
    """Return where the end of a prompt ends in the text before an answer, whose beginning differs."""
    for end in range(len(header), max(len(header) - _LONGEST_LEAD, 0), -1):
        tail = header[max(end - _SAME, 0) : end]
        if len(tail) == _SAME and prompt.endswith(tail):
            return end
    return None


def _is_empty(message: Message) -> bool:
    others = message.get("tool_calls") or message.get("reasoning_content")
    return not others and not content_text(message).strip()


def _end_of_prompt(generation_prompt: str, header: str) -> int:
    """Return where the generation prompt, or the longest beginning of it, ends in the text before an answer."""
    for length in range(len(generation_prompt), 0, -1):
        place = header.rfind(generation_prompt[:length])
        if place >= 0:
            return place + length
    return len(header)
