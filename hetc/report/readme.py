"""The README.md of a bundle: how to run this very bundle."""

from __future__ import annotations

from hetc.bundle import Contract, ForwardEntry, Manifest
from hetc.report.units import count, plural


def readme(manifest: Manifest, contract: Contract | None) -> str:
    """A page of Markdown; it holds no path and no date, so that equal bundles have equal pages.

    A bundle without phases has no contract.
    """
    parts = [f"# {manifest.model.name}, compiled by {manifest.tool.name}", _what(manifest)]
    parts += ["```", *manifest.summary, "```", ""]
    if manifest.forward is not None and manifest.kind == "runnable":
        parts += _call(manifest, manifest.forward)
    else:
        parts += _run(manifest) if manifest.kind == "runnable" else _look(manifest)
    if contract is not None:
        parts += _state(contract)
    parts += _files(manifest)
    return "\n".join(parts)


def _what(manifest: Manifest) -> str:
    model, targets = manifest.model, manifest.targets
    size = f"{count(model.parameters)} parameters in {model.dtype}"
    planned = "" if manifest.kind == "runnable" else " It is a plan: it was made without weights."
    prefill, decode = f"`{targets['prefill'].name}`", f"`{targets['decode'].name}`"
    where = (
        f"for prefill on {prefill} and decode on {decode}"
        if manifest.forward is None
        else f"for {prefill} and {decode} as one function, without prefill and decode"
    )
    return (
        f"\nA {manifest.tool.name} deployment bundle of a {model.family} model ({size}), planned "
        f"{where}.{planned} What the compile said:\n"
    )


def _run(manifest: Manifest) -> list[str]:
    executors = ", ".join(f"`{name}`" for name in manifest.executors)
    has_text = "tokenizer/tokenizer.json" in manifest.files or not manifest.files
    prompt = '-p "Once upon a time"' if has_text else "--tokens 1,2,3"
    call = '"Once upon a time"' if has_text else "[1, 2, 3]"
    return [
        "## Run it",
        "",
        "In the folder of this file:",
        "",
        "```",
        f"hetc run . {prompt} -n 64",
        "hetc verify .        # files, then numerics through the hand-off",
        "hetc inspect .       # marks, costs, what went where and why",
        "hetc explain . cut",
        "```",
        "",
        "From Python:",
        "",
        "```python",
        "import hetc",
        "",
        'with hetc.load(".") as bundle:',
        f"    print(bundle.generate({call}, max_new_tokens=64).text)"
        if has_text
        else f"    print(bundle.generate({call}, max_new_tokens=64).token_ids)",
        "```",
        "",
        f"It runs on {executors}; the first that works is the default. Without the planned chips",
        "it runs on the CPU at hand. Times in the summary are estimates for the planned chips, not",
        "for this CPU.",
        "",
    ]


def _call(manifest: Manifest, forward: ForwardEntry) -> list[str]:
    """How to call a model without phases, and what it takes and gives."""
    given = ", ".join(tensor.name for tensor in forward.inputs)
    rows = [
        f"| {kind} | `{tensor.name}` | `{tensor.dtype}{list(tensor.shape)}` |".replace("'", "")
        for kind, tensors in (("input", forward.inputs), ("output", forward.outputs))
        for tensor in tensors
    ]
    return [
        "## Call it",
        "",
        "| | name | type |",
        "|---|---|---|",
        *rows,
        "",
        "```python",
        "import hetc",
        "",
        'with hetc.load(".") as bundle:',
        f"    outputs = bundle.run({given})  # arrays in, a dict of arrays out",
        "```",
        "",
        "In the folder of this file:",
        "",
        "```",
        "hetc run . --inputs in.npz -o out.npz",
        "hetc verify .        # files, then numerics",
        "hetc inspect .       # marks, costs, what went where and why",
        "```",
        "",
    ]


def _look(manifest: Manifest) -> list[str]:
    return [
        "## Look at it",
        "",
        "```",
        "hetc inspect .       # marks, costs, what went where and why",
        "hetc explain . cut",
        "```",
        "",
        "To run it, compile again from a folder that holds the weights too.",
        "",
    ]


def _state(contract: Contract) -> list[str]:
    kinds = dict.fromkeys(state.kind for state in contract.states)
    names = ", ".join(f"{sum(s.kind == k for s in contract.states)} {k}" for k in kinds)
    what = plural(len(contract.states), "state tensor") + (f" ({names})" if names else "")
    return [
        "## State",
        "",
        f"{what} pass from prefill to decode; `handoff.json` is the contract for each of them.",
        f"Sequences may have up to {contract.max_context:,} tokens.",
        "",
    ]


def _files(manifest: Manifest) -> list[str]:
    has_phases = manifest.forward is None
    known = {"manifest.json": "what this is; size and SHA-256 of every file"}
    if has_phases:
        known["report.html"] = "the decisions as a page: open it in a browser"
    known["decisions.json"] = "where every op went, why, and what would change it"
    if has_phases:
        known |= {
            "handoff.json": "the state that passes from prefill to decode",
            "prefill/": "the prefill half: IR text, and ONNX where it can be",
            "decode/": "the decode half",
        }
    else:
        known["forward/"] = "the graph: IR text, and ONNX where it can be"
    if manifest.kind == "runnable":
        known["weights/"] = "the weights, shared by both halves" if has_phases else "the weights"
        known["golden/"] = "inputs and expected outputs, for `hetc verify`"
    return ["## Files", "", *(f"- `{name}`: {text}" for name, text in known.items()), ""]
