"""Stages: process the records of one manifest and record the results in another, exactly once."""

from manifestlog.stages.calls import run_stage
from manifestlog.stages.definition import CommandWork, FunctionWork, Rerun, Stage
from manifestlog.stages.errors import NoFunctionError, StageError
from manifestlog.stages.items import Input, Item
from manifestlog.stages.order import in_order
from manifestlog.stages.outcome import (
    Failed,
    Judgement,
    Loaded,
    Made,
    Nothing,
    Outcome,
    Output,
    invalid,
    loaded,
    nothing,
    valid,
)
from manifestlog.stages.pipeline import LoopStage, Pipeline
from manifestlog.stages.report import (
    Begun,
    Ended,
    Finished,
    ItemOutcome,
    ItemRef,
    MadeOutput,
    Result,
    StageEvent,
    StageReport,
    Started,
    Waiting,
)
from manifestlog.stages.runner import pending_items
from manifestlog.stages.where import Where

__all__ = [
    "Begun",
    "CommandWork",
    "Ended",
    "Failed",
    "Finished",
    "FunctionWork",
    "Input",
    "Item",
    "ItemOutcome",
    "ItemRef",
    "Judgement",
    "Loaded",
    "LoopStage",
    "Made",
    "MadeOutput",
    "NoFunctionError",
    "Nothing",
    "Outcome",
    "Output",
    "Pipeline",
    "Rerun",
    "Result",
    "Stage",
    "StageError",
    "StageEvent",
    "StageReport",
    "Started",
    "Waiting",
    "Where",
    "in_order",
    "invalid",
    "loaded",
    "nothing",
    "pending_items",
    "run_stage",
    "valid",
]
