"""What a chat completions request may say: bytes -> Body, or what is wrong with them in OpenAI's terms. Pure."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emis_platform.core.records import Turn

MOST = 16
"""Answers that one request may ask for."""
TOP = 20
"""Alternatives to each token that one request may ask for, as at OpenAI."""

Stop = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Part(Strict):
    type: Literal["text"]
    text: str


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def turn(self) -> Turn:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Turn(role="system" if self.role == "developer" else self.role, content=text)


class Body(Strict):
    """What a request may say. A field that would change the answer and is not served is refused, not ignored."""

    messages: list[Message] = Field(min_length=1)
    model: str | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, gt=0)
    max_completion_tokens: int | None = Field(None, gt=0)
    n: int | None = Field(None, ge=1, le=MOST)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | list[Stop] | None = None
    stream: bool | None = None
    top_p: float | None = Field(None, ge=1, le=1)
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    presence_penalty: float | None = Field(None, ge=0, le=0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=TOP)
    user: str | None = None


class Refused(Exception):
    """A request that gets an OpenAI-style error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def checked(data: bytes, name: str) -> Body:
    """Raises Refused that says what is wrong."""
    try:
        body = Body.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "is not served here" if first["type"] == "extra_forbidden" else first["msg"]
        raise Refused(400, f"{where}: {what}" if where else what) from None
    if body.stream:
        raise Refused(400, "stream: answers come whole here; ask with stream false", "unsupported_value")
    if body.top_logprobs is not None and not body.logprobs:
        raise Refused(400, "top_logprobs: goes with logprobs true")
    if body.model not in (None, name):
        raise Refused(404, f"no model {body.model}; there is: {name}", "model_not_found")
    if body.messages[-1].role != "user":
        raise Refused(400, f"messages: the last one must be the user's, this is from {body.messages[-1].role}")
    return body
