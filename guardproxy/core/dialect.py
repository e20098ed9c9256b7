"""The base of all dialects: how the proxy reads and writes one kind of inference call.

Here belongs what the story and the guards may ask of a dialect.  The languages themselves are in
`guardproxy.dialects`, one file each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardproxy.core.asked import Schema, Wanted, Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call, Fault, Headers


class Scan(Protocol):
    """Reads along while a stream is relayed; it changes nothing."""

    events: int
    """Events so far; comments are none."""
    begun: bool
    """Whether the model has said something, or has ended: a role alone is not a word yet."""
    error: dict[str, Any] | None
    """The first error that the stream carried."""
    usage: dict[str, Any] | None
    hopeless: str
    """Why nothing can become of it, as found by whoever watches."""
    done: bool
    """Whether the stream has said itself that it is over."""
    broken: bool
    """Whether it carried an event that nobody can read: relayed as it came, but no sign of health, and not kept."""

    def feed(self, chunk: bytes) -> int:
        """Take what has come; tell how many events it ended."""

    def close(self) -> None:
        """The stream has ended."""

    def complete(self) -> bool:
        """Whether all that was promised has come."""

    def keepable(self) -> bool:
        """Whether it is complete and ended of itself."""

    def told(self) -> Any:
        """What it told, put together, where the scan was made to do so; else None.  Raises `ValueError`."""


class Dialect:
    """One kind of inference call."""

    name: str = ""
    paths: tuple[str, ...] = ()
    """The paths (POST) that speak it."""
    judged: bool = False
    """Whether its answers hold text that a schema can be asked of."""
    media: bytes = b"text/event-stream"
    """The media type of its streams."""
    ends: tuple[bytes, ...] = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
    """What ends an event of its streams."""
    comment: bytes = b": the answer is being checked\n\n"
    """What may be sent in a stream to say that it lives; empty: nothing may."""
    own_key: bytes = b""
    """The header field in which its servers look for a key besides ``Authorization``."""
    aside: frozenset[str] = frozenset()
    """Fields of a request that cannot shape what the model says: calls that differ in nothing else share an answer."""
    remembers: bool = False
    """Whether its servers keep an answer unless they are told not to (``store: false``)."""
    bounds: tuple[str, ...] = ()
    """The fields of a request, beside other sampling parameters, that bound how long the answer may be."""
    nest: str = ""
    """The field of a request that holds sampling parameters; empty: they stand at the top."""
    spelled: Mapping[str, str] = {}
    """What it calls parameters that the configuration of modes calls otherwise."""

    def streams(self, doc: dict[str, Any]) -> bool:
        """Whether the caller wants a stream."""
        return doc.get("stream") is True

    def is_stream(self, headers: Headers) -> bool:
        """Whether the body that came with *headers* is a stream of this dialect."""
        for name, value in headers:
            if len(name) == 12 and name.lower() == b"content-type":
                return value.lower().startswith(self.media)
        return False

    def examine(self, call: Call, answer: Answer) -> Answer | Fault:
        """Read a whole answer and decide its kind; a `Fault` where it is unusable."""
        raise NotImplementedError

    def scan(self, call: Call, watch: Watcher | None = None) -> Scan:
        """Read along with a stream, and show its events to *watch*."""
        raise NotImplementedError

    def gather(self, call: Call, watch: Watcher | None = None) -> Scan:
        """Like `scan`, of an answer that nobody sees before it is whole: it may put it together as it comes."""
        return self.scan(call, watch)

    def wanted(self, doc: dict[str, Any]) -> Wanted | None:
        """The schema that the request *doc* asks for; None where it asks for none, or for the upstream to refuse."""
        del doc
        return None

    def parameters(self, doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
        """The name, the place and the schema of the arguments of every tool that the request *doc* offers."""
        del doc
        return []

    def assemble(self, body: bytes) -> Any:
        """Put a stream together into the answer that it tells; None where it tells none. Raises `ValueError`."""
        raise NotImplementedError

    def sound(self, doc: Any, body: bytes) -> bool:
        """Whether the stream *body*, put together as *doc*, is as the API has it, and not just complete."""
        del doc, body
        return True

    def so_far(self, body: bytes) -> Any:
        """What a stream told that was ended early, wherever that was."""
        raise NotImplementedError

    def usage(self, doc: Any) -> dict[str, Any] | None:
        """How many tokens a whole answer says it took."""
        usage = doc.get("usage") if isinstance(doc, dict) else None
        return usage if isinstance(usage, dict) else None

    def streamed(self, doc: dict[str, Any]) -> dict[str, Any] | None:
        """The fields by which the request *doc* asks for the same answer as events; None where it cannot."""
        del doc
        return None

    def unstreamed(self, doc: dict[str, Any]) -> dict[str, Any]:
        """The fields by which the request *doc* asks for the same answer in one piece."""
        del doc
        return {}

    def enforced(self, doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
        """The fields that tell an engine of *schema* in the way *how* in which it enforces one."""
        del doc, schema, how
        return {}

    def texts(self, doc: Any) -> list[str | None]:
        """The text of each choice; None where a choice has none."""
        raise NotImplementedError

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """The same call with the bad *answer* and what is wrong with it added to the conversation."""
        raise NotImplementedError

    def asides(self, doc: Any) -> list[str | None]:
        """For each choice what was said beside its text, where that may be what was meant to be its text."""
        return [None for _ in self.texts(doc)]

    def deltas(self, chunk: Any) -> list[tuple[int, str]]:
        """What an event adds to the text of which choice."""
        del chunk
        return []

    def calling(self, doc: Any) -> list[bool]:
        """Of each text whether its choice calls tools as well: then it is not the answer yet."""
        return [bool(self.tools(doc))] * len(self.texts(doc))

    def given(self, chunk: Any) -> list[tuple[Any, str, str]]:
        """What an event adds to the calls of tools: to which one, its name where that comes now, and to its arguments.

        A call is named before anything is added to its arguments; one that has none to be told apart by is left out.
        """
        del chunk
        return []

    def tools(self, doc: Any) -> list[tuple[str, str]]:
        """The name and the arguments of every tool call, choice after choice."""
        del doc
        return []

    def cut(self, doc: Any) -> bool:
        """Whether a choice was cut at its length."""
        del doc
        return False

    def stopped(self, doc: Any) -> list[Any]:
        """By which each choice of a whole answer ended, in the words of the API."""
        del doc
        return []

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """The *answer* with the *texts* of its choices and the arguments of its *tools* replaced, but where None."""
        raise NotImplementedError

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """A whole answer of our own that says *text*, as JSON or as events, as the call wants it."""
        raise NotImplementedError

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """An error in this dialect's words."""
        raise NotImplementedError

    def told(self, error: bytes) -> bytes:
        """An *error* of ours as a piece of a stream that has begun."""
        raise NotImplementedError
