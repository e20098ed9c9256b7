"""Whatever is wrong with a configuration is said at once, each with its place, its path and what would be right."""

import pytest

from guardproxy.config.load import Invalid, load, loads


def problems(text, overrides=(), env=None, file="g.yaml"):
    with pytest.raises(Invalid) as caught:
        loads(text, overrides, env or {}, file=file)
    return [str(problem) for problem in caught.value.problems]


def only(text, overrides=(), env=None):
    found = problems(text, overrides, env)
    assert len(found) == 1, found
    return found[0]


def test_everything_is_reported_at_once_in_the_order_of_the_file():
    text = """\
listen: nowhere
cache:
  ttl_secnds: 5
  max_size: 0
circuit_breaker: {failure_threshold: 2}
json_guard: {enabled: maybe}
"""
    assert problems(text, ["retry.attempts=x"]) == [
        "-o retry.attempts: expected a whole number, got 'x'",
        "g.yaml:1: listen: expected an address such as 127.0.0.1:8000, got 'nowhere'",
        "g.yaml:3: cache.ttl_secnds: no such setting; did you mean 'ttl_seconds'?",
        "g.yaml:4: cache.max_size: expected at least 1 and at most 1073741824, got 0",
        "g.yaml:5: circuit_breaker.failure_threshold: expected more than 0 and at most 1, got 2",
        "g.yaml:6: json_guard.enabled: expected one of true, false, shadow, got 'maybe'",
    ]


def test_a_problem_has_line_and_column():
    with pytest.raises(Invalid) as caught:
        loads("cache: {enabled: true, max_size: -1}", env={}, file="f")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column, problem.path) == ("f", 1, 34, "cache.max_size")


@pytest.mark.parametrize(
    "text, said",
    [
        ("cash: {}", "cash: no such setting; did you mean 'cache'?"),
        ("zzz: 1", "zzz: no such setting; there are listen, admin"),
        ("[1]", "expected a mapping of settings"),
        ("word", "expected a mapping of settings"),
        ("cache: 5", "cache: expected a mapping, got 5"),
        ("listen: :70000", "listen: expected a port of at most 65535"),
        ("admin: 127.0.0.1:8000", "admin: is the same address as `listen`"),
        ("admin: 0.0.0.0:8000", "admin: is the same address as `listen`"),
        ("admin_token: 12345", "admin_token: expected text, got something else; put it in quotes"),
        ("own_hosts: [a:80]", "own_hosts[0]: 'a:80' is not a host name"),
        ("upstreams: {}", "upstreams: at least one upstream is needed"),
        ("upstreams: {q: {}}", "upstreams.q.url: is required"),
        ("upstreams: {v1: {url: http://h}}", "upstreams.v1: no upstream may be called 'v1'"),
        ("upstreams: {metrics: {url: http://h}}", "no upstream may be called 'metrics'"),
        ("upstreams: {a/b: {url: http://h}}", "upstreams.\"a/b\": 'a/b' is no name"),
        ("upstreams: {q: {url: ftp://h}}", "upstreams.q.url: expected a URL such as"),
        ("upstreams: {q: {url: 'http://u:pw@h'}}", "upstreams.q.url: a URL holds no user or password"),
        ("upstreams: {q: {url: 'http://h/v1?x=1'}}", "upstreams.q.url: the URL of a model server has no query"),
        ("upstreams: {q: {url: 'http://h/#x'}}", "upstreams.q.url: a URL has no fragment"),
        ("upstreams: {q: {url: http://127.0.0.1:8000/v1}}", "upstreams.q.url: is this proxy itself"),
        ("upstreams: {q: {url: http://localhost:9090}}", "upstreams.q.url: is this proxy itself"),
        ("upstreams: {q: {url: http://h, headers: {Host: x}}}", "the header field Host belongs to the connection"),
        ('upstreams: {q: {url: http://h, headers: {X-A: "a\\nb"}}}', "upstreams.q.headers.X-A: expected visible"),
        ("upstreams: {q: {url: http://h, ca_file: no.pem}}", "upstreams.q.ca_file: there is no file 'no.pem'"),
        ("upstreams: {q: {url: http://h, aliases: q2}}", "upstreams.q.aliases: expected a list, got 'q2'"),
        (
            "upstreams: {a: {url: http://h, model: m}, b: {url: http://i, model: m}}",
            "'m' means the upstream 'a' already",
        ),
        ("upstreams: {a: {url: http://h}, b: {url: http://i, aliases: [a]}}", "upstreams.b.aliases[0]: 'a' means"),
        ("modes: {qwen2.5: {upstream: qwen}}", "'qwen2.5' means the upstream 'qwen' already"),
        ("modes: {m: {upstream: qwn}}", "modes.m.upstream: there is no upstream 'qwn'; did you mean 'qwen'?"),
        ("modes: {m: {}}", "modes.m.upstream: is required"),
        ("modes: {m: {upstream: qwen, caps: {max_tokens: lots}}}", "modes.m.caps.max_tokens: expected a number"),
        ("modes: {m: {upstream: qwen, params: {x: .nan}}}", "modes.m.params.x: expected a number that JSON can hold"),
        ("default_upstream: qwn", "default_upstream: there is no upstream 'qwn'; did you mean 'qwen'?"),
        ("circuit_breaker: {models: {qwin: {}}}", "circuit_breaker.models.qwin: there is no upstream 'qwin'"),
        ("circuit_breaker: {timeout: 0}", "circuit_breaker.timeout: expected more than 0"),
        ("circuit_breaker: {timeout: -1}", "circuit_breaker.timeout: expected a duration such as"),
        ("circuit_breaker: {timeout: 5 weeks}", "circuit_breaker.timeout: expected a duration such as"),
        ("circuit_breaker: {half_open_requests: 0}", "half_open_requests: expected at least 1"),
        ("circuit_breaker: {half_open_requests: 1.5}", "half_open_requests: expected a whole number, got 1.5"),
        ("circuit_breaker: {half_open_requests: '3'}", "half_open_requests: expected a whole number, got '3'"),
        ("circuit_breaker: {half_open_requests: true}", "half_open_requests: expected a whole number, got true"),
        ("json_guard: {max_retries: 101}", "json_guard.max_retries: expected at least 0 and at most 100, got 101"),
        ("cache: {max_bytes: 10KiB}", "cache.max_bytes: cannot hold one answer"),
        ("cache: {type: fifo}", "cache.type: expected lru_ttl, got 'fifo'"),
        ("cache: {vary: ['a b']}", "cache.vary[0]: 'a b' is not the name of a header field"),
        ("downshift: {field: model}", "downshift.field: 'model' is a field that means something else"),
        ("health: {prompt: ' '}", "health.prompt: expected text, got nothing"),
        ("retry: {budget: 1.5}", "retry.budget: expected at least 0 and at most 1, got 1.5"),
        ("alerts: {webhook: example}", "alerts.webhook: expected a URL"),
        ("routes: [{schema: x, path: /a}]", "routes[0].schema: there is no schema 'x'; there are none"),
        ("routes: [{path: a}]", "routes[0].path: expected a path that starts with /"),
        ("routes: [{cache: false}]", "routes[0]: a route needs `path`, `model` or `mode`"),
        ("routes: [{model: gpt}]", "routes[0].model: there is no model 'gpt'"),
        ("routes: [{mode: fst}]", "routes[0].mode: there is no mode 'fst'; did you mean 'fast'?"),
        ("routes: [{path: /a, guards: [jsn]}]", "routes[0].guards[0]: there is no guard 'jsn'"),
        ("log: {level: loud}", "log.level: expected one of debug, info, warning, error, got 'loud'"),
        (
            "log: {level: DEBUG}",
            "log.level: expected one of debug, info, warning, error, got 'DEBUG'; did you mean 'debug'?",
        ),
    ],
)
def test_what_is_wrong_is_said(text, said):
    assert said in only(text)


def test_what_works_is_not_refused():
    loads("upstreams: {q: {url: http://h, structured_output: response_format, capabilities: []}}", env={})
    loads("downshift: {scope: upstream}\nupstreams: {q: {url: http://h, capabilities: [vision, context=8192]}}", env={})
    loads("shared: {url: null, state: true}\ncache: {stale_while_revalidate_seconds: 5s, enabled: shadow}", env={})


def test_a_shared_store_needs_a_secret():
    """Nobody may believe what anybody could have written."""
    with pytest.raises(Invalid, match=r"shared.url: needs `secret`"):
        loads("shared: {url: redis://h}", env={})
    loads("shared: {url: rediss+cluster://h:1, secret: s}", env={})
    with pytest.raises(Invalid, match=r"shared.ca_file: there is no file"):
        loads("shared: {url: rediss://h, secret: s, ca_file: none.pem}", env={})


def test_one_mistake_is_not_reported_as_another():
    """An upstream that is wrong is still there for the modes that name it."""
    assert only("upstreams: {q: {url: nonsense}}\nmodes: {m: {upstream: q}}").startswith("g.yaml:1: upstreams.q.url")
    assert only("upstreams: {q: 5}\nmodes: {m: {upstream: q}}").startswith("g.yaml:1: upstreams.q:")
    assert only("upstreams: 5\nmodes: {m: {upstream: q}}").startswith("g.yaml:1: upstreams:")
    assert only("modes: 5\nroutes: [{mode: fast}]").startswith("g.yaml:1: modes:")


def test_secrets_are_not_repeated():
    """Problems are printed and logged, what was written in the wrong place with them."""
    text = "admin_token: [s3cret]\nupstreams: {q: {url: 'http://u:s3cret@h', api_key: {s3cret: s3cret}}}"
    assert "s3cret" not in "".join(problems(text))


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(Invalid, match="cannot be read: no such file"):
        load(str(tmp_path / "none.yaml"), env={})
    with pytest.raises(Invalid, match="cannot be read"):
        load(str(tmp_path), env={})
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(Invalid, match=r"latin.yaml:2: is not UTF-8"):
        load(str(tmp_path / "latin.yaml"), env={})


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    """The argument, else the variable, else config/guardproxy.yaml, else the defaults."""
    monkeypatch.chdir(tmp_path)
    assert load(env={}).path is None
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "guardproxy.yaml").write_text("health: {rise: 3}")
    assert load(env={}).config.health.rise == 3
    (tmp_path / "other.yaml").write_text("\ufeffhealth: {rise: 4}", "utf-8")
    assert load(env={"GUARDPROXY_CONFIG": "other.yaml"}).config.health.rise == 4
    assert load("config/guardproxy.yaml", env={"GUARDPROXY_CONFIG": "other.yaml"}).config.health.rise == 3
    with pytest.raises(Invalid):
        load(env={"GUARDPROXY_CONFIG": "gone.yaml"})


def test_origins_say_where_a_value_came_from():
    loaded = loads("cache:\n  ttl_seconds: ${TTL}\n", ["health.rise=2"], {"TTL": "5m"}, file="g.yaml")
    assert int(loaded.config.cache.ttl_seconds) == 300
    assert loaded.origins["cache.ttl_seconds"] == "g.yaml:2 (env TTL)"
    assert loaded.origins["health.rise"] == "-o"
    assert loaded.origins["health.fall"] == "default"


def test_the_digest_is_that_of_the_values():
    """Comments and spelling do not change it; any value does, and the order of modes too."""
    same = [loads(text, env={}).digest for text in ("", "# hello", "cache: {ttl_seconds: 10m}")]
    assert len(set(same)) == 1
    assert len(same[0]) == 12
    other = ["cache: {ttl_seconds: 601}", "modes: {a: {upstream: qwen}, b: {upstream: llama}}"]
    other.append("modes: {b: {upstream: llama}, a: {upstream: qwen}}")
    assert len({same[0], *(loads(text, env={}).digest for text in other)}) == 4


@pytest.mark.parametrize(
    "text, said",
    [
        ("upstreams: {a: {url: http://h}, b: {url: http://i}}", "a caller's key goes to different hosts, a (h), b (i)"),
        ("listen: 0.0.0.0:8000", "can be reached from other machines"),
        ("timeouts: {total: 20}", "timeouts.first_token: 60 s never pass"),
        ("drain: {seconds: 1}", "drain.idle_seconds: longer than"),
        ("routes: [{path: /v1/*}, {path: /v1/x, mode: fast}]", "routes[1]: never counts, as routes[0]"),
    ],
)
def test_what_is_rarely_meant_is_a_warning(text, said):
    assert any(said in warning for warning in loads(text, env={}).warnings)


def test_keys_of_their_own_are_no_warning():
    text = "upstreams: {a: {url: http://h, api_key: k}, b: {url: http://i, headers: {Authorization: x}}, c: {url: http://j}}"
    assert loads(text, env={}).warnings == []


def test_numbers_stay_as_they_were_written():
    """`max_tokens: 512.0` is refused by model servers."""
    caps = (
        loads("modes: {m: {upstream: qwen, caps: {max_tokens: 512, temperature: 0.5}}}", env={}).config.modes["m"].caps
    )
    assert [type(value) for value in caps.values()] == [int, float]
