"""The Neural Engine: its limits, the rules it follows, and a prediction of what runs there."""

from __future__ import annotations

from anec.ane.catalogue import CATALOGUE, TOPICS
from anec.ane.cost import Device
from anec.ane.limits import GENERATIONS, Limits, limits_of
from anec.ane.placement import FunctionPrediction, Placement, Prediction, predict
from anec.ane.rules import Confidence, Effect, Finding, Rule

__all__ = [
    "CATALOGUE",
    "GENERATIONS",
    "TOPICS",
    "Confidence",
    "Device",
    "Effect",
    "Finding",
    "FunctionPrediction",
    "Limits",
    "Placement",
    "Prediction",
    "Rule",
    "limits_of",
    "predict",
]
