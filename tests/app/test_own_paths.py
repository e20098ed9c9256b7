"""The paths that the proxy answers itself: what is there, who may ask, who may change something."""

from __future__ import annotations

import pytest

from tests.app.stand import CHAT, asking, request

OWN = ("/health/llm", "/healthz", "/readyz", "/metrics", "/guard/state", "/guard/verify", "/v1/models")
CHANGES = [
    ("PUT", "/guard/mode", {"ceiling": "fast"}),
    ("PUT", "/guard/breakers/llama", {"state": "open"}),
    ("DELETE", "/guard/cache", None),
    ("POST", "/guard/reload", None),
]


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("path", OWN)
async def test_there(stand, path, admin):
    """Every own path is answered on both ports, to GET and, without a body, to HEAD."""
    answer = await stand.ask("GET", path, admin=admin)
    assert (answer.status, bool(answer.body)) == (200, True)
    head = await stand.ask("HEAD", path, admin=admin)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0


async def test_the_plain_ones(stand):
    """What a kubelet reads."""
    assert (await stand.get("/healthz")).text == "ok\n"
    assert (await stand.get("/readyz")).text == "ready\n"


async def test_probes_depend_on_no_model(make):
    """Liveness and readiness stay 200 with every model dead: an outage must not take the pod out."""
    stand = await make()
    for sim in stand.sims.values():
        sim.down()
    await stand.chat()
    assert [(await stand.get(path)).status for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("path", ["/guard/nothing", "/guard/statex", "/guard/breakers/llama"])
async def test_unknown(stand, path, admin):
    """An unknown own path is 404, and says which there are; it never reaches a model."""
    answer = await stand.ask("GET", path, admin=admin)
    assert (answer.status, answer.code) == (404, "not_found")
    assert "/guard/state" in answer.error["message"]
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_the_admin_port_proxies_nothing(stand):
    """The operators' port proxies nothing, whatever the path."""
    for path in (CHAT, "/llama/v1/files", "/"):
        answer = await stand.ask("POST", path, admin=True, json=asking())
        assert (answer.status, answer.code) == (404, "not_found")
        answer = await stand.ask("GET", path, admin=True)
        assert answer.status in {200, 404}
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


@pytest.mark.parametrize("method, path, body", CHANGES)
async def test_changes_on_the_admin_port_only(stand, method, path, body):
    """What changes something is refused on the app's port, and done on the operators' port for loopback."""
    refused = await stand.ask(method, path, json=body)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert "admin port" in refused.error["message"]
    assert (await stand.ask(method, path, admin=True, json=body)).status == 200


@pytest.mark.parametrize("path", ["/guard/nothing", "/guard/state", "/guard/cache/x"])
async def test_unknown_changes(stand, path):
    """There is nothing to change elsewhere: 403 on the app's port, 404 on the operators'."""
    assert (await stand.ask("PUT", path, json={})).status == 403
    assert (await stand.ask("PUT", path, admin=True, json={})).status == 404


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:9090", 200),
        ("[::1]", 200),
        ("LOCALHOST:1", 200),
        ("localhost.", 200),
        ("proxy.internal:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("proxy.internal.evil.example:80", 403),
    ],
)
async def test_host(make, host, status, admin):
    """Own paths are for IP literals, localhost and `own_hosts`: a page with its name rebound learns nothing."""
    stand = await make({"own_hosts": ["proxy.internal"]})
    received, _ = await stand.raw(
        request(method="GET", path="/guard/state").replace(b"app.test", host.encode()), admin=admin
    )
    assert received.startswith(b"HTTP/1.1 %d " % status)
    if status == 403:
        assert b'"code":"forbidden"' in received
    changed, _ = await stand.raw(
        request({"ceiling": "fast"}, method="PUT", path="/guard/mode").replace(b"app.test", host.encode()), admin=True
    )
    assert changed.startswith(b"HTTP/1.1 %d " % status)


async def test_a_page_may_change_nothing(stand):
    """A page of another site that a browser sends to loopback changes nothing."""
    for site in ("cross-site", "same-site"):
        answer = await stand.put("/guard/mode", {"ceiling": "fast"}, headers={"Sec-Fetch-Site": site})
        assert (answer.status, answer.code) == (403, "forbidden")
    answer = await stand.put("/guard/mode", {"ceiling": "fast"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 200


@pytest.mark.parametrize(
    "said, status",
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://{host}.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Referer": "http://evil.example/page"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://{host}", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://{host}"}, 200),
        ({"Referer": "http://{host}/guard/"}, 200),
    ],
)
async def test_a_page_in_an_old_browser_may_change_nothing(stand, said, status):
    """Browsers that know nothing of Sec-Fetch-Site say whose page it is by Origin or Referer; a form needs no leave."""
    headers = {name: text.format(host=stand.admin.removeprefix("http://")) for name, text in said.items()}
    answer = await stand.put("/guard/mode", {"ceiling": "fast"}, headers=headers)
    assert answer.status == status
    ceiling = (await stand.state())["mode"]["ceiling"]
    assert (ceiling == "fast") is (status == 200), ceiling


async def test_token(make):
    """With `admin_token` a wrong bearer token is 401, even from loopback, the right one and none at all are served."""
    stand = await make({"admin_token": "s3cret"})
    wrong = await stand.put("/guard/mode", {"ceiling": None}, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status, wrong.code) == (401, "unauthorized")
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer")
    for headers in ({"Authorization": "Bearer s3cret"}, {"Authorization": "bearer s3cret"}, {}):
        assert (await stand.put("/guard/mode", {"ceiling": None}, headers=headers)).status == 200
    right = {"Authorization": "Bearer s3cret"}
    assert (await stand.ask("PUT", "/guard/mode", json={"ceiling": None}, headers=right)).status == 403


async def test_orders_are_small(stand):
    """An order's body is bounded, and must be JSON."""
    big = await stand.ask("PUT", "/guard/mode", admin=True, data=b"x" * 100_000)
    assert (big.status, big.code) == (413, "request_too_large")
    bad = await stand.ask("PUT", "/guard/mode", admin=True, data=b"{")
    assert bad.status == 422


async def test_other_methods(stand):
    """A method that means nothing here is 405."""
    for method in ("PATCH", "OPTIONS"):
        answer = await stand.ask(method, "/guard/state")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.headers["Allow"]


async def test_models(stand):
    """`GET /v1/models` is merged over upstreams and modes and asks nobody; other methods there are the upstream's."""
    doc = (await stand.get("/v1/models")).json()
    assert doc["object"] == "list"
    names = [model["id"] for model in doc["data"]]
    assert len(names) == len(set(names)) == 10
    for model in doc["data"]:
        assert (model["object"], type(model["created"])) == ("model", int)
        assert model["owned_by"] in stand.sims
    served = (await stand.get("/v1/models/Qwen/Qwen2.5-7B-Instruct")).json()
    assert (served["id"], served["owned_by"]) == ("Qwen/Qwen2.5-7B-Instruct", "qwen")
    missing = await stand.get("/v1/models/gpt-17")
    assert (missing.status, missing.code) == (404, "model_not_found")
    assert (await stand.ask("DELETE", "/v1/models/x")).code == "model_not_found"
    assert (await stand.get("/qwen/v1/models")).json()["data"][0]["id"] == "Qwen/Qwen2.5-7B-Instruct"
    assert stand.asked("qwen", None) == 1


async def test_state(stand):
    """`/guard/state` shows everything an operator asks first."""
    await stand.chat()
    state = await stand.state()
    assert len(state["config"]["digest"]) == 12
    assert state["available"] == ["qwen", "mistral", "llama"]
    assert state["draining"] is False
    assert state["mode"]["ceiling"] == "creative"
    cache = state["cache"]
    assert (cache["size"], cache["max_size"], cache["utilization"], cache["ttl_seconds"]) == (1, 1000, 0.001, 600)
    assert cache["bytes"] > 0
    breaker = state["breakers"]["llama"]
    assert (breaker["state"], breaker["failure_rate"], breaker["attempts"]) == ("closed", 0.0, 1)
    assert state["guards"]["json"]["max_retries"] == 3
    assert state["guards"]["health"]["llama"]["status"] == "healthy"
    assert state["upstreams"]["qwen"]["url"] == stand.sims["qwen"].url
    assert {event["what"] for event in state["events"]} == {"health"}


async def test_state_tells_no_secret(make):
    """No key, token or password is ever shown."""
    stand = await make(
        {
            "admin_token": "s3cret-token",
            "upstreams": {"llama": {"api_key": "s3cret-key", "headers": {"X-Key": "s3cret-header"}}},
            "alerts": {"webhook": "http://127.0.0.1:1/s3cret-hook"},
        }
    )
    await stand.chat("one", headers={"Authorization": "Bearer s3cret-caller"})
    for path in OWN:
        assert b"s3cret" not in (await stand.get(path)).body, path
    assert "s3cret" not in str(stand.log())


async def test_metrics_formats(stand):
    """Prometheus text by default, OpenMetrics for who prefers it; no `_created` series in either."""
    plain = await stand.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    om = await stand.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert om.headers["Content-Type"].startswith("application/openmetrics-text")
    assert om.text.endswith("# EOF\n")
    assert "_created" not in plain.text + om.text


async def test_other_origins_are_given_nothing(stand):
    """No CORS: a page of another site may send what it likes, and reads nothing of the answer."""
    for path in ("/guard/state", "/guard/live", "/guard/requests", "/metrics", "/guard/"):
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
        asked = await stand.ask("OPTIONS", path, admin=True, headers=headers)
        assert asked.status == 405
        assert not [name for name in asked.headers if name.lower().startswith("access-control")]
    told = await stand.ask("GET", "/guard/state", admin=True, headers={"Origin": "https://evil.example"})
    assert not [name for name in told.headers if name.lower().startswith("access-control")]


async def test_what_a_caller_wrote_is_escaped(stand):
    """His id and his model come back as JSON, and as one line of the log."""
    odd = 'a"b<script>&\\'
    await stand.chat(model=odd, headers={"X-Request-Id": odd})
    told = (await stand.get("/guard/requests")).json()["requests"][0]
    assert told["id"] == odd
    (line,) = [line for line in stand.log() if line["msg"] == "request"]
    assert line["id"] == odd
    missing = await stand.get("/guard/requests/%22%3Cscript%3E")
    assert missing.headers["Content-Type"] == "application/json"
