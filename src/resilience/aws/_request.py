"""One request of a call and its attempts: signed afresh each time, the body sent again from where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.httpchecksum import AwsChunkedWrapper

from .._runtime import drive
from .._scope import current
from . import _aio, _transport
from .kinds import checksum_error

if TYPE_CHECKING:
    from ._call import AwsCall
    from ._guard import Guard
    from ._wire import Abort

__all__ = ["Request"]

_BYTES = (bytes, bytearray, str, dict)


class Request:
    """The attempts of one call. Thread-safe as far as hedged attempts need it."""

    __slots__ = (
        "_aborts", "_checked", "_context", "_dict", "_endpoint", "_guard", "_hedged", "_limit", "_model", "_start",
        "call", "closed",
    )  # fmt: skip

    def __init__(self, guard: Guard, call: AwsCall, request_dict: dict[str, Any], operation_model: Any) -> None:
        self.call = call
        self.closed = False
        self._guard = guard
        self._endpoint = guard.client._endpoint
        self._dict = request_dict
        self._model = operation_model
        self._context = request_dict["context"]
        self._hedged = call.inner.hedge is not None
        self._checked = call.operation.service == "dynamodb"
        self._aborts: list[Abort] = []
        self._start = _position(request_dict.get("body"))
        scope = current()
        self._limit = None if scope is None else scope.limit

    def battempt(self, *args: Any, **params: Any) -> Any:
        """`attempt` of a blocking client."""
        if not self._hedged:
            return drive(self.attempt())
        with _transport.aborting() as handle:
            self._aborts.append(handle)
            if self.closed:
                handle.abort()
            try:
                return drive(self.attempt())
            finally:
                self._aborts.remove(handle)

    async def attempt(self, *_args: Any, **_params: Any) -> Any:
        """Send once; the parsed answer.

        Raises:
            ClientError: the answer is an error, of the class that the client has for it.
            BaseException: there was no answer.
        """
        number = self.call.next_try()
        endpoint, model, is_async = self._endpoint, self._model, self._guard.is_async
        request = self._dict
        context = self._context
        if self._hedged:  # side by side they must not write into each other's
            context = {key: dict(value) if type(value) is dict else value for key, value in context.items()}
            request = {**request, "context": context}
        again = number > 1
        while True:
            if again:
                _rewind(request.get("body"), self._start)
            self._describe(context, number)
            prepared = endpoint.create_request(request, model)
            if is_async:
                prepared = await prepared
            response = endpoint._get_response(prepared, model, context)
            answer, error = (await response) if is_async else response
            # Handlers that repair, such as S3's redirector, and the user's own; botocore's retrying keeps silent.
            if not self._guard.silent:  # unwrapped just now: it would speak
                break
            again = endpoint._needs_retry(number, model, request, answer, error)
            if is_async:
                again = await again
            if not again:
                break
        if self.closed and answer is not None:  # a hedge that lost; nobody will read it
            self.call.answers.append(answer)
            await self._drop(answer[0])
            return answer[1]
        content = None
        if self._checked and answer is not None:
            content = (await answer[0].content) if is_async else answer[0].content
        return self._judged(answer, error, context, content)[1]

    def once(self) -> tuple[Any, Any]:
        """The first attempt of a blocking client that does not hedge, in short: the answer."""
        call, context, endpoint, model = self.call, self._context, self._endpoint, self._model
        call.tries = 1
        self._describe(context, 1)
        answer, error = endpoint._get_response(endpoint.create_request(self._dict, model), model, context)
        if self._guard.silent and endpoint._needs_retry(1, model, self._dict, answer, error):
            call.tries = 0
            _rewind(self._dict.get("body"), self._start)  # or it is refused, where it cannot go back
            drive(self.attempt())
            return call.answers[-1]
        content = answer[0].content if self._checked and answer is not None else None
        return self._judged(answer, error, context, content)

    def _judged(
        self, answer: Any, error: Exception | None, context: dict[str, Any], content: bytes | None
    ) -> tuple[Any, Any]:
        """The answer, or what it comes to; its *content* where that has a checksum."""
        if error is not None:
            raise error
        http, parsed = answer
        self.call.answers.append(answer)
        if http.status_code >= 300:
            code = context.get("error_code_override") or parsed.get("Error", {}).get("Code")
            raise self._guard.client.exceptions.from_code(code)(parsed, self._model.name)
        if content is not None:
            corrupt = checksum_error(http.headers, content)
            if corrupt is not None:
                raise corrupt
        return http, parsed

    def _describe(self, context: dict[str, Any], number: int) -> None:
        """What the ``amz-sdk-request`` header is to say."""
        answers, most = self.call.answers, self.call.most
        self._endpoint._update_retries_context(context, number, answers[-1] if answers else None)
        if most is None:
            context["retries"].pop("max", None)
        else:
            context["retries"]["max"] = most

    def answer(self, parsed: object) -> tuple[Any, Any] | None:
        """The answer that was parsed to *parsed*."""
        return next((answer for answer in self.call.answers if answer[1] is parsed), None)

    async def close(self, kept: tuple[Any, Any] | None) -> None:
        """No attempt counts any more; one that is still running in a thread, having lost, ends now.

        Streams other than that of the answer *kept* are closed: nobody will read them.
        """
        self.closed = True
        for handle in tuple(self._aborts):
            handle.abort()
        if self.call.operation.streams_out:
            for answer in self.call.answers:
                if answer is not kept:
                    await self._drop(answer[0])

    async def _drop(self, http: Any) -> None:
        if self._guard.is_async:
            await _aio.close(http.raw)
        else:
            _close(http)

    def finish(self, answer: tuple[Any, Any]) -> tuple[Any, Any]:
        """What botocore gets for the call."""
        http, parsed = answer
        if self.call.operation.streams_out and http.status_code < 300:
            timeout = self.call.inner.timeout
            stall = None if timeout is None or timeout.shadow else timeout.of(self.call).seconds_for(0)
            hand_over = _aio.hand_over if self._guard.is_async else _transport.hand_over
            hand_over(http.raw, limit=self._limit, stall=stall)
        if "ResponseMetadata" in parsed:
            parsed["ResponseMetadata"]["RetryAttempts"] = self.call.tries - 1
        return answer


def _raw(body: Any) -> Any:
    """The file below what botocore wraps around it to send it in chunks with a checksum."""
    return body._raw if isinstance(body, AwsChunkedWrapper) else body


def _position(body: Any) -> int | None:
    """Where a file stands that is to be sent; ``None`` for what is no file, or cannot tell."""
    if body is None or isinstance(body, _BYTES):
        return None
    try:
        return int(_raw(body).tell())
    except Exception:
        return None


def _rewind(body: Any, start: int | None) -> None:
    """Back to where the body stood when the call began; botocore goes back to the start of the file.

    Raises:
        UnseekableStreamError: it cannot go back.
    """
    if body is None or isinstance(body, _BYTES):
        return
    try:
        body.seek(0)  # a wrapper forgets what it has sent, too
        if start:
            _raw(body).seek(start)
    except Exception as error:
        from botocore.exceptions import UnseekableStreamError

        raise UnseekableStreamError(stream_object=body) from error


def _close(http: Any) -> None:
    close = getattr(http.raw, "close", None)
    if close is not None:
        close()
