"""The base of every document that is stored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of every group: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
