"""What lies in a shared store is believed only if somebody wrote it who knows the secret."""

from __future__ import annotations

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core import seal as module
from guardproxy.core.seal import Seal

SEAL = Seal("a secret", above=64)


@given(st.text(), st.binary(max_size=300))
def test_what_is_sealed_is_opened(name, value):
    """By its own name."""
    assert SEAL.open(name, SEAL.close(name, value)) == value


@given(st.binary(max_size=200), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_opens_nothing(value, place, change):
    """Wherever it is: in the version, the flags, the mark or the value."""
    sealed = bytearray(SEAL.close("n", value))
    sealed[place % len(sealed)] ^= change
    assert SEAL.open("n", bytes(sealed)) is None


@given(st.binary(max_size=200))
def test_what_anybody_may_write(text):
    """Nothing that was not sealed is opened, and nothing is an error."""
    assert SEAL.open("n", text) is None
    assert SEAL.open("n", module.MAGIC + text) is None


def test_another_secret_and_another_name():
    """An answer can be neither forged nor given to another question."""
    sealed = SEAL.close("n", b"value")
    assert Seal("another").open("n", sealed) is None
    assert SEAL.open("m", sealed) is None
    assert SEAL.open("n", sealed[:-1]) is None


def test_large_values_are_compressed():
    """Above the size, and only where that makes them smaller."""
    assert len(SEAL.close("n", b"x" * 1000)) < 100
    assert len(SEAL.close("n", b"x" * 64)) == 64 + 36
    noise = bytes(range(256))
    assert len(SEAL.close("n", noise)) == 256 + 36


def test_a_bomb_is_not_unpacked():
    """A value that would become larger than any answer is not there, though it is sealed as it should be."""
    small = Seal("a secret", above=64, most=1000)
    assert small.open("n", SEAL.close("n", b"x" * 1001)) is None
    assert small.open("n", SEAL.close("n", b"x" * 1000)) == b"x" * 1000
    flags, value = module.PRESSED, b"no zstd"
    assert SEAL.open("n", module.MAGIC + flags + SEAL._mac("n", flags, value) + value) is None
    cut = zstandard.ZstdCompressor().compress(b"x" * 100)[:-3]
    assert SEAL.open("n", module.MAGIC + flags + SEAL._mac("n", flags, cut) + cut) is None


def test_without_the_library(monkeypatch):
    """Nothing is compressed, and what another has compressed is not there."""
    pressed = SEAL.close("n", b"x" * 1000)
    monkeypatch.setattr(module, "_press", None)
    assert SEAL.open("n", pressed) is None
    assert SEAL.open("n", SEAL.close("n", b"x" * 1000)) == b"x" * 1000


def test_names():
    """A name says nothing of what it is made of; other parts and other secrets make other names."""
    assert SEAL.name(b"a", b"b") != SEAL.name(b"ab", b"")
    assert SEAL.name(b"a") != Seal("another").name(b"a")
    assert len(SEAL.name(b"a")) == 64
    assert repr(SEAL) == "<Seal above 64 bytes>"
