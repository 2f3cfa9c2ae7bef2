"""A store on DynamoDB, by boto3: a step is made here and written on the condition that nothing has changed meanwhile.

DynamoDB runs no code, and has no clock that can be asked; but each answer carries the server's date, which keeps every
client's idea of the time within a second of the server's, however wrong its own clock is (`_date`). Knows boto3 and
the item a state is kept in: ``key``, ``state`` (numbers with spaces between), ``by`` (who wrote it: unique for each
write), ``until`` (microseconds) and ``ends`` (seconds, for the table's time to live).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _checks, _workers
from ._date import Dated
from .forking import survive
from .keys import check_prefix
from .protocol import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .protocol import Numbers, Transition

__all__ = ["DynamoDBStore"]

_KNOWN = 10_000
"""So many keys whose last state is remembered, to be written at once without being read."""
_LATER_S = 60
"""An item is deleted so much later than it may be, for the clocks of those who read it."""


class _Item(NamedTuple):
    """What is known of a key: the write it is from (``None``: there is no item), the state, and when that expires."""

    by: str | None
    state: Numbers
    until: int


_NOTHING = _Item(None, (), 0)


class DynamoDBStore(Store):
    """State shared through a DynamoDB table whose partition key is a string named ``key``; see `create_table`.

    Each step is one write (and one read before it, for a key that this process does not know or that others have
    written meanwhile). A limiter's bound is that of its clock, which may be off by *s* seconds, at most one:
    ``burst + rate * (t + 2 * s)`` in any t seconds, see ``docs/explanation/shared-state.md``. One key takes some
    hundred writes a second; leases keep below that.

    Args:
        table: its name.
        client: a boto3 client for ``dynamodb``; by default one is made, that repeats nothing and has the timeout
            below for connecting and reading. It is used by threads of this library's own, at most for the timeout.
        prefix: what all keys begin with; letters, digits, ``_``, ``.`` and ``-``.
        timeout: seconds that one exchange may take.
        name: what events call it; the prefix by default.

    Raises:
        ConfigError: an argument is out of range.
        ImportError: boto3 is not installed.

    Thread-safe. A child process has connections of its own.
    """

    def __init__(
        self,
        table: str,
        *,
        client: Any = None,
        prefix: str = "resilience",
        timeout: float = 0.25,
        name: str | None = None,
    ) -> None:
        self.prefix = check_prefix(prefix)
        super().__init__(name=prefix if name is None else name, timeout=timeout)
        self.table = _checks.text("table", table)
        if client is None:
            import boto3
            from botocore.config import Config

            config = Config(connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 1})
            client = boto3.client("dynamodb", config=config)
        elif not hasattr(client, "put_item"):
            raise TypeError(f"client must be a boto3 client for dynamodb, not {client!r}")
        self._client = client
        self._date = Dated()
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Item] = OrderedDict()
        self._who = uuid.uuid4().hex
        self._writes = 0
        survive(self)

    def forked(self) -> None:
        """See `forking`: connections are the parent's, and so is the name its writes have."""
        self._lock = threading.Lock()
        self._who = uuid.uuid4().hex
        self._client.close()  # our copies of the connections; it opens new ones

    def create_table(self) -> None:
        """Make the table, paid by request, with a time to live; returns when it can be used."""
        self._client.create_table(
            TableName=self.table,
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self._client.get_waiter("table_exists").wait(TableName=self.table, WaiterConfig={"Delay": 1})
        self._client.update_time_to_live(
            TableName=self.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ends"}
        )

    def _exchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        until = time.monotonic() + self.timeout
        # In a thread that can be left: boto3 bounds each read and not the whole, nor the look-up of a name.
        job = _workers.start(lambda: self._step(key, transition, arguments, until))
        if not job.done.wait(self.timeout):
            raise TimeoutError(f"no answer in {self.timeout:g} s")
        reply: Numbers = job.outcome()
        return reply

    async def _aexchange(self, key: str, transition: Transition, arguments: Numbers) -> Numbers:
        import asyncio

        until = time.monotonic() + self.timeout
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        job = _workers.start(lambda: self._step(key, transition, arguments, until), tell)
        await done.wait()  # the caller bounds it
        reply: Numbers = job.outcome()
        return reply

    def _step(self, key: str, transition: Transition, arguments: Numbers, ends: float) -> Numbers:
        """Step on what is known; if that is not what is there, on what is."""
        place = f"{self.prefix}:{key}:{transition.name}:{transition.version}"
        with self._lock:
            item = self._known.get(place)
            self._writes += 1
            by = f"{self._who}:{self._writes}"
        fresh = item is None
        if item is None:
            item = self._read(place)
        while True:
            now = self._date.now()
            state = item.state if item.until > now else ()
            after, ttl, reply = transition.step(state, now, arguments)
            if after is None or (not after and item.by is None):
                if fresh:
                    self._remember(place, item)
                    return reply
                item, fresh = self._read(place), True  # nothing is written that would show whether it is still true
                continue
            wanted = _Item(by, after, now + ttl * 1000) if after else _NOTHING
            found = self._write(place, item, wanted)
            if found is None or found.by == by:  # or it was written, and the answer lost, and botocore repeated it
                self._remember(place, wanted)
                return reply
            item, fresh = found, True
            if time.monotonic() >= ends:
                raise TimeoutError("others write the same key all the time")

    def _remember(self, place: str, item: _Item) -> None:
        with self._lock:
            self._known[place] = item
            self._known.move_to_end(place)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)

    def _read(self, place: str) -> _Item:
        found = self._call(self._client.get_item, TableName=self.table, Key={"key": {"S": place}}, ConsistentRead=True)
        return _item(found.get("Item"))

    def _write(self, place: str, old: _Item, new: _Item) -> _Item | None:
        """Replace *old* by *new*; or what is there instead of *old*."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#k)"}
        condition["ExpressionAttributeNames"] = {"#k": "key"}
        if old.by is not None:
            condition = {
                "ConditionExpression": "#b = :old",
                "ExpressionAttributeNames": {"#b": "by"},
                "ExpressionAttributeValues": {":old": {"S": old.by}},
            }
        condition |= {"TableName": self.table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            if new.by is None:
                self._call(self._client.delete_item, Key={"key": {"S": place}}, **condition)
            else:
                self._call(self._client.put_item, Item=_attributes(place, new), **condition)
        except self._client.exceptions.ConditionalCheckFailedException as error:
            self._heard(error.response)
            return _item(error.response["Item"]) if "Item" in error.response else self._read(place)
        return None

    def _call(self, operation: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        sent = self._date.local()
        answer: dict[str, Any] = operation(**arguments)
        self._heard(answer, sent)
        return answer

    def _heard(self, answer: dict[str, Any], sent: int | None = None) -> None:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if sent is not None and "date" in headers:
            self._date.heard(headers["date"], sent, self._date.local())

    def survey(self) -> Iterator[Entry]:
        """See `Store.survey`; reads the whole table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self.table,
            FilterExpression="begins_with(#k, :p)",
            ExpressionAttributeNames={"#k": "key"},
            ExpressionAttributeValues={":p": {"S": f"{self.prefix}:"}},
        )
        for page in pages:
            for attributes in page["Items"]:
                item = _item(attributes)
                key, name, version = attributes["key"]["S"][len(self.prefix) + 1 :].split(":")
                if item.until > self._date.now():
                    yield Entry(key, name, int(version), item.state)

    def close(self) -> None:
        """See `Store.close`."""
        self._client.close()


def _item(attributes: dict[str, Any] | None) -> _Item:
    if not attributes:
        return _NOTHING
    state = tuple(map(int, attributes["state"]["S"].split()))
    return _Item(attributes["by"]["S"], state, int(attributes["until"]["N"]))


def _attributes(place: str, item: _Item) -> dict[str, Any]:
    return {
        "key": {"S": place},
        "state": {"S": " ".join(map(str, item.state))},
        "by": {"S": item.by},
        "until": {"N": str(item.until)},
        "ends": {"N": str(item.until // 1_000_000 + _LATER_S)},
    }
