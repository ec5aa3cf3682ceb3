"""Models that need no provider, in one place for tests: scripted ones, recorded ones, and their mishaps."""

from __future__ import annotations

from ..models.recorded import RecordedModel, Recording, load_recordings
from ..models.scripted import DROP, HANG, ScriptedModel

__all__ = ["DROP", "HANG", "RecordedModel", "Recording", "ScriptedModel", "load_recordings"]
