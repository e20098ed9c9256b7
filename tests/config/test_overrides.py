"""`-o section.key=value` counts over the file, is read as YAML, and is judged like the file."""

import pytest

from guardproxy.config.load import Invalid, loads


def test_an_override_counts_over_the_file():
    config = loads("cache: {ttl_seconds: 5}", ["cache.ttl_seconds=1m", "cache.when=deterministic"], {}).config
    assert int(config.cache.ttl_seconds) == 60
    assert config.cache.when == "deterministic"


def test_the_last_one_counts():
    assert loads("", ["health.rise=2", "health.rise=3"], {}).config.health.rise == 3


def test_values_are_yaml():
    changes = ["routes=[{path: /v1/embeddings, cache: false}]", "own_hosts=[a, b]", "health.prompt='5'"]
    config = loads("", changes, {}).config
    assert not config.routes[0].cache
    assert config.own_hosts == ("a", "b")
    assert config.health.prompt == "5"


def test_one_default_upstream_can_be_changed():
    """The built-in upstreams and modes can be overridden without being written out."""
    config = loads("", ["upstreams.qwen.url=http://h:1", "modes.fast.caps.max_tokens=9"], {}).config
    assert config.upstreams["qwen"].url == "http://h:1"
    assert config.upstreams["qwen"].model == "Qwen/Qwen2.5-7B-Instruct"
    assert config.modes["fast"].caps == {"max_tokens": 9}


def test_names_with_dots_stand_in_quotes():
    config = loads("upstreams: {qwen2.5: {url: http://h}}", ['upstreams."qwen2.5".model=m'], {}).config
    assert config.upstreams["qwen2.5"].model == "m"


def test_nothing_means_null():
    assert loads("admin_token: x", ["admin_token="], {}).config.admin_token is None


def test_variables_work_in_overrides():
    assert loads("", ["health.rise=${N}"], {"N": "4"}).config.health.rise == 4


@pytest.mark.parametrize(
    "override, said",
    [
        ("nonsense", "-o: 'nonsense' is no override; write section.key=value"),
        ("=1", "-o: '=1' is no override"),
        ("a..b=1", "-o: 'a..b=1' is no override"),
        ("cache.ttl=5", "-o cache.ttl: no such setting; did you mean 'ttl_seconds'?"),
        ("cache.ttl_seconds=x", "-o cache.ttl_seconds: expected a duration"),
        ("listen.port=5", "-o listen.port: listen is no mapping"),
        ("cache=[", "-o cache: not YAML"),
        ("health.rise=${NO}", "-o health.rise: the environment variable NO is not set"),
    ],
)
def test_what_is_wrong_is_said_with_the_override(override, said):
    with pytest.raises(Invalid) as caught:
        loads("listen: 127.0.0.1:1", [override], {}, file="f")
    assert str(caught.value.problems[0]).startswith(said)
