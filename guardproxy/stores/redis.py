"""Redis and Valkey as the shared store: ``redis://``, ``rediss://`` (TLS), ``unix://``, and clusters of them.

Here belongs the wording of each wish in the commands of Redis.  A cluster is ``redis+cluster://HOST:PORT`` or
``rediss+cluster://…``, any of its nodes; ``valkey`` may stand for ``redis`` everywhere.

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

from guardproxy.core.store import StoreSpec, Unreachable

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
        self._more: dict[str, Any] = {"socket_connect_timeout": access.timeout, **tls}

    async def get(self, name: str, counts: str, fields: Sequence[str]) -> tuple[bytes | None, list[int]]:
        """``GET`` and ``HMGET``, on their way together."""
        if self._spread:
            found, counted = await _asked(asyncio.gather(self._client.get(name), self._client.hmget(counts, fields)))
        else:
            pipeline = self._client.pipeline(transaction=False)
            found, counted = await _asked(pipeline.get(name).hmget(counts, fields).execute())
        return found, [int(count) if count and count.isdigit() else 0 for count in counted]

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """``SET PX``."""
        await _asked(self._client.set(name, value, px=max(1, int(seconds * 1000))))

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """``MGET``, or each from its own node."""
        ask = self._client.mget_nonatomic if self._spread else self._client.mget
        found: Sequence[bytes | None] = await _asked(ask(names))
        return found

    async def outdo(self, name: str, stamp: bytes, value: bytes, seconds: float) -> bytes | None:
        """``SET PX``, where what is there does not begin with something greater."""
        there = await _asked(self._client.eval(_OUTDO, 1, name, stamp, value, max(1, int(seconds * 1000))))
        return there if isinstance(there, bytes) else None

    async def clock(self, name: str) -> float:
        """``TIME``, of the node that a script on *name* runs on."""
        return float(await _asked(self._client.eval(_CLOCK, 1, name)))

    async def claim(self, name: str, token: bytes, seconds: float) -> bool:
        """``SET NX PX``."""
        return bool(await _asked(self._client.set(name, token, px=max(1, int(seconds * 1000)), nx=True)))

    async def renew(self, name: str, token: bytes, seconds: float) -> bool:
        """``PEXPIRE``, if it is still ours."""
        return bool(await _asked(self._client.eval(_RENEW, 1, name, token, max(1, int(seconds * 1000)))))

    async def free(self, name: str, token: bytes) -> None:
        """``DEL``, if it is still ours."""
        await _asked(self._client.eval(_FREE, 1, name, token))

    async def count(self, counts: str, field: str) -> int:
        """``HINCRBY``."""
        return int(await _asked(self._client.hincrby(counts, field, 1)))

    async def publish(self, channel: str, message: bytes) -> None:
        """``PUBLISH``, which a cluster carries to all of its nodes."""
        await _asked(self._client.execute_command("PUBLISH", channel, message))

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
        """``PING``."""
        await _asked(self._client.ping())

    async def close(self) -> None:
        """Close all connections."""
        await _asked(self._client.aclose())


async def _asked(what: Awaitable[Any]) -> Any:
    """The answer; whatever keeps it away is one thing here."""
    try:
        return await what
    except _AWAY as error:
        raise Unreachable(f"{type(error).__name__}: {error}"[:300]) from error


_FAMILY = ("redis", "rediss", "valkey", "valkeys")
SPEC = StoreSpec((*_FAMILY, *(f"{name}+cluster" for name in _FAMILY), "unix"), RedisStore)
"""What the registry loads."""
