"""The manager: facts, fidelity, loops, reports, and instruments that watch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import anec
from anec import Context, Pass, mil, rewrite, var
from anec.api.text import optimize
from anec.check.fidelity import Close, Lossy
from anec.errors import AnecError, CheckError, UsageError, VerifyError
from anec.ir.graph import Graph, Module, Value
from anec.pipeline.instruments import Disable, Progress, StopAfter, Trace, Verify
from anec.pipeline.manager import Manager, Report
from anec.pipeline.registry import register
from anec.pipeline.spec import Steps, build
from rewriting import module_of, roots

x = var("x")
INPUTS = {"x0": torch.linspace(-2, 2, 8).reshape(2, 4)}


def make(name: str, action: Callable[[Graph, Context], None] | None = None, **settings: Any) -> type[Pass]:
    """Register a pass that does ``action``."""

    def go(self: Pass, graph: Graph, ctx: Context) -> None:
        if action is not None:
            action(graph, ctx)

    return register(type("Made", (Pass,), {"name": name, "run": go, "__doc__": "Made by a test.", **settings}))


def swap(name: str, before: Any, after: Any, **settings: Any) -> type[Pass]:
    """Register a pass of one rule that replaces one unary op by another."""
    rule = rewrite(before(x), name=f"{name}-rule")(lambda x: after(x))
    return register(type("Swap", (Pass,), {"name": name, "rules": (rule,), "__doc__": "Swaps.", **settings}))


def steps(text: str, **named: str) -> Steps:
    return build(text, named)


def run_steps(module: Module, text: str, *instruments: Any, inputs: Any = None, **named: str) -> Report:
    return Manager(instruments, inputs).run(module, steps(text, **named))


# -- reports -------------------------------------------------------------------------------------------


def test_a_report_tells_what_each_pass_did() -> None:
    swap("to-abs", mil.relu, mil.abs)
    make("nothing", lambda graph, ctx: [ctx.note("looked"), ctx.note("looked")] and None)  # type: ignore[func-returns-value]
    module = module_of(lambda a: mil.relu(mil.tanh(mil.relu(a))), line="net.py:3")
    report = run_steps(module, "to-abs,nothing", Verify())
    first, second = report.passes
    assert (first.changed, first.ops_before, first.ops_after, first.fired) == (True, 3, 3, {"to-abs-rule": 2})
    assert first.places == {"to-abs-rule": ["net.py:3 (net)"]}
    assert (second.changed, second.notes, second.index, second.spec) == (False, ["looked"], 2, "nothing")
    assert json.loads(json.dumps(report.as_json()))["passes"][0]["fired"] == {"to-abs-rule": 2}
    assert report.pipeline == "to-abs,nothing"


def test_any_change_of_the_module_is_seen() -> None:
    def at_first(action: Callable[[Any], None]) -> Callable[[Graph, Context], None]:
        return lambda graph, ctx: action(graph.first)

    changes: dict[str, Callable[[Graph, Context], None]] = {
        "attr": at_first(lambda op: op.set_attr("beta", 3.0)),
        "dropped-attr": at_first(lambda op: op.drop_attr("beta")),
        "operand": at_first(lambda op: op.set_operand(0, op.value("x"))),
        "meta": lambda graph, ctx: ctx.module.meta.update(a="b"),
        "target": lambda graph, ctx: setattr(ctx.module, "target", "iOS17"),
        "output": lambda graph, ctx: graph.outputs.append(graph.inputs[0]),
        "input-name": lambda graph, ctx: graph.rename(graph.inputs[0], "pixels"),
        "note": lambda graph, ctx: graph.signature.notes.append("dropped"),
    }
    for name, action in changes.items():
        make(name, action)
        module = module_of(lambda a: mil.clip(a, alpha=0.0, beta=1.0))
        assert run_steps(module, name).passes[0].changed, name


def test_a_rule_on_other_dialects_leaves_a_note() -> None:
    swap("on-aten", anec.aten.relu.default, anec.aten.abs.default)
    report = run_steps(module_of(mil.relu), "on-aten")
    assert report.passes[0].notes == ["on-aten works on aten; the module holds mil"]


# -- loops ---------------------------------------------------------------------------------------------


def test_fix_repeats_until_nothing_changes() -> None:
    def peel(graph: Graph, ctx: Context) -> None:
        op = graph.first
        if op is not None and len(graph) > 1:
            graph.replace(op.result, op.value("x"))
            graph.erase(op)

    make("peel", peel)
    module = module_of(lambda a: mil.relu(mil.relu(mil.relu(a))))
    report = run_steps(module, "fix(peel)", Verify())
    assert roots(module) == ["relu"]
    assert [(done.index, done.changed) for done in report.passes] == [(1, True), (2, True), (3, False)]


def test_fix_that_never_rests() -> None:
    swap("there", mil.relu, mil.abs)
    swap("back", mil.abs, mil.relu)
    with pytest.raises(AnecError, match=r"fix\(there,back\) still changes the module after 16 rounds"):
        run_steps(module_of(mil.relu), "fix(there,back)")


# -- facts ---------------------------------------------------------------------------------------------


def test_what_a_pass_requires_and_ensures() -> None:
    make("needs-mil", requires=("mil",))
    make("breaks-it", lambda graph, ctx: None, ensures=("static",))
    make("unknown", requires=("magic",))
    assert run_steps(module_of(mil.relu), "needs-mil").passes
    with pytest.raises(AnecError, match="needs-mil requires a program of `mil` ops alone"):
        run_steps(module_of(anec.aten.relu.default), "needs-mil")
    symbolic = anec.read(
        "anec 1\nmodule target=iOS18\ndims S in 1..8\n\n"
        "func main(%x: f32[S]) -> (%y: f32[S]) {\n  %y = mil.relu(%x) : f32[S]\n  return %y\n}\n"
    )
    with pytest.raises(AnecError, match="breaks-it ensures a program without symbolic sizes") as caught:
        run_steps(symbolic, "breaks-it")
    assert caught.value.pass_name == "breaks-it"
    with pytest.raises(UsageError, match="unknown requires the unknown fact 'magic'"):
        run_steps(module_of(mil.relu), "unknown")


# -- lossy passes --------------------------------------------------------------------------------------


def test_a_lossy_pass_runs_only_when_typed() -> None:
    swap("rough", mil.relu, mil.abs, fidelity=Lossy("on purpose"))
    with pytest.raises(UsageError, match="the lossy pass rough runs only when its name is typed"):
        run_steps(module_of(mil.relu), "shape", shape="rough", inputs=INPUTS)


def test_a_lossy_pass_needs_inputs() -> None:
    swap("rough", mil.relu, mil.abs, fidelity=Lossy("on purpose"))
    with pytest.raises(UsageError, match="the lossy pass rough needs example inputs"):
        run_steps(module_of(mil.relu), "rough")


def test_the_loss_is_measured() -> None:
    rule = rewrite(mil.relu(x), name="scaled")(lambda x: mil.mul(mil.abs(x), 1.001))
    fidelity = Lossy("scale", at_least=50.0)
    register(type("Scale", (Pass,), {"name": "scale", "rules": (rule,), "fidelity": fidelity, "__doc__": "."}))
    positive = {"x0": INPUTS["x0"].abs() + 1}
    result, done = optimize(module_of(mil.relu), "scale", inputs=positive)
    assert roots(result) == ["abs", "mul"]
    # Off by 0.1 % everywhere: 20 log10(peak / (0.001 rms)), a little above 60 dB.
    assert 60 < done.losses["scale"] < 66
    assert done.as_json()["losses"] == done.losses


@pytest.mark.parametrize(
    ("measure", "at_least", "message"),
    [("psnr", 70.0, "scale loses too much: psnr 6"), ("rel", 1e-4, "scale loses too much: rel 0.001")],
)
def test_a_loss_beyond_the_promise_is_an_error(measure: str, at_least: float, message: str) -> None:
    rule = rewrite(mil.relu(x), name="scaled")(lambda x: mil.mul(mil.abs(x), 1.001))
    fidelity = Lossy("scale", measure, at_least)
    register(type("Scale", (Pass,), {"name": "scale", "rules": (rule,), "fidelity": fidelity, "__doc__": "."}))
    with pytest.raises(CheckError, match=message) as caught:
        optimize(module_of(mil.relu), "scale", inputs={"x0": INPUTS["x0"].abs() + 1})
    assert caught.value.pass_name == "scale"


def test_fidelities_say_what_they_are() -> None:
    assert str(anec.EXACT) == "exact"
    assert str(Close(1e-3)) == "close (rtol 0.001, atol 0)"
    assert str(Lossy("less", at_least=40)) == "lossy (less; psnr at least 40)"


# -- instruments ---------------------------------------------------------------------------------------


def test_verify_names_the_pass_that_breaks_the_ir() -> None:
    def spoil(graph: Graph, ctx: Context) -> None:
        assert graph.first is not None
        graph.first.set_attr("alpha", 1.0)

    make("fine")
    make("spoil", spoil)
    with pytest.raises(VerifyError, match="mil.relu has no attribute 'alpha'") as caught:
        run_steps(module_of(mil.relu, line="net.py:9"), "fine,spoil", Verify())
    assert caught.value.pass_name == "spoil"
    assert caught.value.where == "net.py:9 (net)"


def test_verify_checks_the_dialects_a_pass_promises() -> None:
    make("to-nn", produces=frozenset({"nn"}))
    with pytest.raises(VerifyError, match="mil.relu is not of the dialects nn"):
        run_steps(module_of(mil.relu), "to-nn", Verify())


def test_verify_looks_before_the_first_pass() -> None:
    make("fine")
    module = module_of(mil.relu)
    assert module.main.first is not None
    module.main.first.attrs["alpha"] = 1.0
    with pytest.raises(VerifyError):
        run_steps(module, "fine", Verify())


def test_a_mistake_in_a_pass_is_told_with_its_place() -> None:
    def mistake(graph: Graph, ctx: Context) -> None:
        raise KeyError("typo")

    make("mistaken", mistake)
    with pytest.raises(AnecError, match="the pass mistaken failed: KeyError: 'typo'") as caught:
        run_steps(module_of(mil.relu), "mistaken")
    assert caught.value.pass_name == "mistaken"
    assert "test_manager.py:" in (caught.value.hint or "")
    assert isinstance(caught.value.__cause__, KeyError)


def test_listeners_are_gone_after_a_failure() -> None:
    def mistake(graph: Graph, ctx: Context) -> None:
        ctx.facts.range(graph.inputs[0])
        raise KeyError("typo")

    make("mistaken", mistake)
    module = module_of(mil.relu)
    with pytest.raises(AnecError):
        run_steps(module, "mistaken")
    assert module.main.listeners == []


def test_stop_after() -> None:
    for name in ("a", "b", "c"):
        make(name)
    report = run_steps(module_of(mil.relu), "a,b,c,b", StopAfter("b"))
    assert [(done.spec, done.skipped) for done in report.passes] == [("a", False), ("b", False), ("c", True), ("b", True)]
    with pytest.raises(UsageError, match="the pipeline has no pass 'd'") as caught:
        run_steps(module_of(mil.relu), "a,b", StopAfter("d"))
    assert caught.value.hint == "it runs a,b"


def test_disable() -> None:
    ran: list[str] = []
    for name in ("a", "b"):
        make(name, lambda graph, ctx, name=name: ran.append(name))  # type: ignore[misc]
    report = run_steps(module_of(mil.relu), "a,b,a", Disable(["a"]))
    assert ran == ["b"]
    assert [done.skipped for done in report.passes] == [True, False, True]


def test_progress_and_trace() -> None:
    swap("to-abs", mil.relu, mil.abs)
    told: list[str] = []
    trace = Trace()
    run_steps(module_of(mil.relu), "to-abs", Progress(told.append), trace)
    assert told == ["to-abs"]
    assert [(record["pass"], record["rule"], record["site"]) for record in trace.records] == [("to-abs", "to-abs-rule", "relu")]


# -- contexts ------------------------------------------------------------------------------------------


def test_an_imperative_pass_builds_with_its_context() -> None:
    def double(graph: Graph, ctx: Context) -> None:
        for op in list(graph.ops()):
            with ctx.builder(before=op.next, like=op):
                made = mil.mul(op.result, 2.0)
            for user, index in list(op.result.uses):
                if user is not made.op:
                    user.set_operand(index, made)
            graph.outputs = [made if output is op.result else output for output in graph.outputs]

    make("double", double)
    module = module_of(mil.relu, line="net.py:5")
    report = run_steps(module, "double", Verify())
    assert report.passes[0].changed
    last = module.main.last
    assert last is not None
    assert (last.name, last.result.name, last.origin.place) == ("mil.mul", "relu_1", "net.py:5 (net)")


def test_building_outside_of_a_rule_is_an_error() -> None:
    module = module_of(mil.relu)
    with pytest.raises(AnecError, match="mil.abs was called on values outside of a rule or builder"):
        mil.abs(module.main.inputs[0])


def test_rules_of_one_pass_see_its_options() -> None:
    @rewrite(mil.relu(x))
    def power(x: Value, opts: Any) -> Value:
        return mil.pow(x, float(opts.exponent))

    @register
    @dataclass
    class Power(Pass):
        """Raises."""

        name: ClassVar[str] = "power"
        rules = (power,)
        exponent: int = 2

    module = module_of(mil.relu)
    run_steps(module, "power{exponent=3}", Verify())
    assert "mil.pow(%x0, 3.0)" in str(module)


def test_every_function_is_transformed() -> None:
    swap("to-abs", mil.relu, mil.abs)
    module = module_of(mil.relu)
    other = module_of(lambda a: mil.tanh(mil.relu(a))).main
    other.name = "other"
    module.functions["other"] = other
    report = run_steps(module, "to-abs", Verify())
    assert [op.defn.root for op in module.ops()] == ["abs", "abs", "tanh"]
    assert report.passes[0].fired == {"to-abs-rule": 2}

