"""Addresses and URLs are read exactly; what could end up in a log or be misread is refused."""

import pytest

from guardproxy.config.places import Address, upstream_url


@pytest.mark.parametrize(
    "text, address",
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        (":8000", ("", 8000)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses_are_read_and_written(text, address):
    assert Address.parse(text) == address
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["8000", "::1:8000", "a b:1", "h:", "h:65536", "h:-1", "http://h:1", "h:\uff11"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


def test_addresses_clash_on_one_port():
    one = Address("127.0.0.1", 1)
    assert one.clashes(Address("0.0.0.0", 1))
    assert not one.clashes(Address("127.0.0.2", 1))
    assert not one.clashes(Address("127.0.0.1", 2))
    assert not Address("", 0).clashes(Address("", 0))  # any free port is free twice


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h:8/v1/",
        "http://[::1]:1/a/v1",
        "unix:/run/m.sock",
        "unix:///run/m.sock",
        "unix:/m.sock:/v1",
    ],
)
def test_urls_of_model_servers(url):
    upstream_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "//h", "http://", "http:///v1", "http://h:0", "http://h:", "http://h:99999", "http://h:x", "ftp://h",
        "http://u@h", "http://h?x", "http://h#x", "http://h /", "http://h\n", "http://-h-", "http://h\\@i", "http://é",
        "http://[::1", "unix:", "unix:m.sock", "unix:/a/", "unix:/a b", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_model_server(url):
    with pytest.raises(ValueError, match=r"URL|expected"):
        upstream_url(url)
