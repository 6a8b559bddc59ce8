"""What decides where supported ops go; placement applies these itself, segment by segment."""

from __future__ import annotations

from anec.ane.rules import Confidence, Effect, Rule

RULES = (
    Rule(
        "B60",
        "A run on the Neural Engine takes 0.1 to 0.2 ms whatever it does; less work stays on the CPU.",
        ("segment",),
        Effect.CPU,
        Confidence.MEASURED,
        "AG, MX",
        "larger inputs or batches; small models belong on the CPU",
    ),
    Rule(
        "B61",
        "Core ML puts an op where running it and moving its data is cheapest.",
        ("segment",),
        Effect.CPU,
        Confidence.MEASURED,
        "AG",
        "remove the ops beside it that are not supported",
    ),
)
