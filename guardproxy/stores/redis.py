"""Redis and Valkey as the shared store: ``redis://``, ``rediss://`` (TLS), ``unix://``, and clusters of them.

Here belongs the wording of each wish in the commands of Redis.  A cluster is ``redis+cluster://HOST:PORT`` or
``rediss+cluster://…``, any of its nodes; ``valkey`` may stand for ``redis`` everywhere.  How many wishes share few
connections is `_Line`'s.

Source: https://redis.io/docs/latest/commands/
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from guardproxy.core.store import Refused, StoreSpec, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from guardproxy.core.store import Access

_RENEW = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) else return 0 end"
_FREE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"
_OUTDO = """
local there = redis.call('get', KEYS[1])
if there and string.sub(there, 1, string.len(ARGV[1])) > ARGV[1] then return there end
redis.call('set', KEYS[1], ARGV[2], 'px', ARGV[3])
return false
"""
_CLOCK = "local time = redis.call('time') return time[1] .. '.' .. string.format('%06d', time[2])"
_AWAY = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
_MANY, _SOME = 128, 16
"""Commands that go together at the most, to one server and to the nodes of a cluster."""
_LINES = 2
"""Batches on their way at once, for reading and for writing each: a large answer does not hold up the next."""


@final
class _Line:
    """Commands on their way to one server: what is asked while others are on theirs goes together with the next.

    So a burst of calls takes a connection that is there, and not one for each; and who waits no longer does not tear
    down what the others wait for.
    """

    def __init__(self, client: Any, timeout: float, *, spread: bool) -> None:
        self._client = client
        self._timeout = timeout
        self._spread = spread
        self._many = _SOME if spread else _MANY
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._runs: set[asyncio.Task[None]] = set()

    def ask(self, *command: Any) -> asyncio.Future[Any]:
        """The answer to *command*."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if len(self._runs) < _LINES:
            run = asyncio.ensure_future(self._run())
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        return future

    async def close(self) -> None:
        """Answer nobody any more."""
        for run in (runs := list(self._runs)):
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._many], self._waiting[self._many :]
            answers: Sequence[Any]
            try:
                async with asyncio.timeout(self._timeout):
                    answers = await self._answers([command for command, _ in batch])
            except asyncio.CancelledError:
                answers = [Unreachable("the store is closed")] * len(batch)
            except Exception as error:  # noqa: BLE001 -- whatever a library raises, those who wait must be told
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue  # he waits no longer
                if isinstance(answer, Exception):
                    future.set_exception(_unreachable(answer))
                else:
                    future.set_result(answer)

    async def _answers(self, commands: list[tuple[Any, ...]]) -> Sequence[Any]:
        if self._spread or len(commands) == 1:
            asked = (self._client.execute_command(*command) for command in commands)
            return await asyncio.gather(*asked, return_exceptions=True)
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        return answers


@final
class RedisStore:
    """A Redis, by the client library of its makers; it neither retries nor waits: whoever asks knows better."""

    def __init__(self, access: Access) -> None:
        scheme, _, rest = access.url.partition("://")
        scheme = scheme.replace("valkey", "redis", 1)
        url = f"{scheme.removesuffix('+cluster')}://{rest}"
        tls = {"ssl_ca_certs": access.ca_file} if access.ca_file is not None and scheme.startswith("rediss") else {}
        kind: Any = RedisCluster if scheme.endswith("+cluster") else Redis
        self._client: Any = kind.from_url(
            url, socket_connect_timeout=access.timeout, retry=Retry(NoBackoff(), 0), decode_responses=False, **tls
        )
        self._spread = kind is RedisCluster
        self._ask = _Line(self._client, access.timeout, spread=self._spread)
        """For what is waited for."""
        self._tell = _Line(self._client, access.timeout, spread=self._spread)
        """For what is written: large, and in no hurry."""

    async def get(self, name: str, table: str, fields: Sequence[str]) -> tuple[bytes | None, Sequence[bytes | None]]:
        """``GET`` and ``HMGET``, on their way together."""
        found, marks = await asyncio.gather(self._ask.ask("GET", name), self._ask.ask("HMGET", table, *fields))
        return found, marks

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """``SET PX``."""
        await self._tell.ask("SET", name, value, "PX", _milliseconds(seconds))

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """``MGET``, or each from its own node."""
        if self._spread:
            return list(await asyncio.gather(*(self._ask.ask("GET", name) for name in names)))
        return list(await self._ask.ask("MGET", *names))

    async def outdo(self, name: str, stamp: bytes, value: bytes, seconds: float) -> bytes | None:
        """``SET PX``, where what is there does not begin with something greater."""
        there = await self._tell.ask("EVAL", _OUTDO, 1, name, stamp, value, _milliseconds(seconds))
        return there if isinstance(there, bytes) else None

    async def clock(self, name: str) -> float:
        """``TIME``, of the node that a script on *name* runs on."""
        return float(await self._ask.ask("EVAL", _CLOCK, 1, name))

    async def claim(self, name: str, token: bytes, seconds: float) -> bool:
        """``SET NX PX``."""
        return bool(await self._ask.ask("SET", name, token, "PX", _milliseconds(seconds), "NX"))

    async def renew(self, name: str, token: bytes, seconds: float) -> bool:
        """``PEXPIRE``, if it is still ours."""
        return bool(await self._tell.ask("EVAL", _RENEW, 1, name, token, _milliseconds(seconds)))

    async def free(self, name: str, token: bytes) -> None:
        """``DEL``, if it is still ours."""
        await self._tell.ask("EVAL", _FREE, 1, name, token)

    async def mark(self, table: str, field: str, value: bytes, *, first: bool = False) -> None:
        """``HSET``, or ``HSETNX``."""
        await self._tell.ask("HSETNX" if first else "HSET", table, field, value)

    async def publish(self, channel: str, message: bytes) -> None:
        """``PUBLISH``, which a cluster carries to all of its nodes."""
        await self._tell.ask("PUBLISH", channel, message)

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[bytes], None]) -> None:
        """``SUBSCRIBE`` on a connection of its own, to any node."""
        client = self._client
        if self._spread:
            await _asked(client.initialize())
            node = client.get_default_node()
            kwargs = node.connection_kwargs
            keep = ("username", "password", "ssl_ca_certs")
            client = Redis(
                host=node.host,
                port=node.port,
                ssl="SSL" in node.connection_class.__name__,
                **{name: kwargs[name] for name in keep if kwargs.get(name) is not None},
            )
        ears = client.pubsub(ignore_subscribe_messages=False)
        try:
            await _asked(ears.subscribe(channel))
            while True:
                message = await _asked(ears.get_message(timeout=None))
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    ready()
                elif message["type"] == "message":
                    heard(message["data"])
        finally:
            await ears.aclose()
            if self._spread:
                await client.aclose()

    async def ping(self) -> None:
        """``PING``, behind what is asked."""
        await self._ask.ask("PING")

    async def greet(self) -> None:
        """``PING``, over as many connections as there may be: so they are open before a burst needs them."""
        await _asked(asyncio.gather(*(self._client.execute_command("PING") for _ in range(2 * _LINES))))

    async def close(self) -> None:
        """Close all connections."""
        await self._ask.close()
        await self._tell.close()
        await _asked(self._client.aclose())


async def _asked(what: Awaitable[Any]) -> Any:
    """The answer; whatever keeps it away is one thing here."""
    try:
        return await what
    except _AWAY as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> Unreachable:
    if isinstance(error, Unreachable):
        return error
    kind = Refused if isinstance(error, exceptions.ResponseError) else Unreachable
    return kind(f"{type(error).__name__}: {error}"[:300])


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


_FAMILY = ("redis", "rediss", "valkey", "valkeys")
SPEC = StoreSpec((*_FAMILY, *(f"{name}+cluster" for name in _FAMILY), "unix"), RedisStore)
"""What the registry loads."""
