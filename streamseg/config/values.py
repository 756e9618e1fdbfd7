"""What every section of a run's configuration is made of."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streamseg.types.ids import parse_stream_id

Score = Annotated[float, Field(ge=0, le=1)]


def _encodable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode(errors="replace").decode()):
        raise ValueError("must be text that a file name can hold, without NUL")
    return text


def without_nul(text: str) -> str:
    """Any text that the system takes for a path. Raises ValueError."""
    if "\0" in text:
        raise ValueError("must be without NUL")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
StreamId = Annotated[str, AfterValidator(parse_stream_id)]


class Section(BaseModel):
    """Keys that belong together: unknown ones are errors, and no message quotes a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)
