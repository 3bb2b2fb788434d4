"""Loading a bundle: check its files, choose an executor, prepare both halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from hetc.bundle import ForwardEntry, OpenBundle, open_bundle
from hetc.errors import BundleError, HetcError, Reason, RuntimeFault
from hetc.runtime.bundle import Bundle
from hetc.runtime.cuda import cuda_executors
from hetc.runtime.executor import Executor, ExecutorFactory
from hetc.runtime.forward import Forward, ForwardFactory
from hetc.runtime.halves import Halves
from hetc.runtime.native import native_executors
from hetc.runtime.onnx_executor import onnx_executors
from hetc.runtime.onnx_forward import onnx_forwards
from hetc.runtime.tokenizer import read_tokenizer

# Decode of their bundles falls to the first other executor that works.
_PREFILL_ONLY = frozenset({"cuda"})

Prepared = TypeVar("Prepared")


def load(
    path: str | Path,
    *,
    executors: Mapping[str, ExecutorFactory] | None = None,
    forwards: Mapping[str, ForwardFactory] | None = None,
    executor: str | None = None,
    check: Literal["full", "sizes"] = "sizes",
) -> Bundle:
    """Open the bundle at `path` and make both halves ready to run.

    `executors` are offered beside the runtime's own (`cuda`, `onnx`, `native`), and `forwards`
    beside its own for bundles without phases (`onnx`). Without `executor`,
    the first of the manifest's that works here is taken, and `Bundle.fallbacks` says why others
    were passed over. `cuda` runs prefill alone, and decode falls to the first of the others.
    Every file is hashed before it is used; with `check="full"`, all of them now.
    Raises BundleError where the bundle cannot be trusted, and RuntimeFault: HETC-R002 for an
    executor that the bundle or this installation does not have, R003 where none works. An executor
    that was asked for by name raises its own error.
    """
    files = open_bundle(path, check=check)
    halves: Halves | None = None
    forward: Forward | None = None
    fallbacks: tuple[Reason, ...] = ()
    try:
        own = {"cuda": cuda_executors(), "onnx": onnx_executors(), "native": native_executors()}
        offered = {**own, **(executors or {})}
        # A tokenizer takes as long to parse as many weights to hash.
        with ThreadPoolExecutor(max_workers=1) as beside:
            tokenizer = beside.submit(read_tokenizer, files)
            if files.manifest.kind == "plan":
                pass
            elif (entry := files.manifest.forward) is not None:
                known = {"onnx": onnx_forwards(), **(forwards or {})}
                forward, fallbacks = _forward(files, entry, known, executor)
            elif executor is not None:
                _require_offered(files, executor, offered)
                halves, fallbacks = _prepare(files, executor, offered)
            else:
                halves, fallbacks = _first_that_works(files, offered)
        return Bundle(files, halves or forward, tokenizer.result(), fallbacks)
    except BaseException:
        for made in (halves, forward):
            if made is not None:
                made.close()
        files.close()
        raise


def _forward(
    files: OpenBundle,
    entry: ForwardEntry,
    offered: Mapping[str, ForwardFactory],
    executor: str | None,
) -> tuple[Forward, tuple[Reason, ...]]:
    """The function of a bundle without phases, on `executor` or the first that works."""

    def prepare(name: str) -> tuple[Forward, tuple[Reason, ...]]:
        made = offered[name]()
        made.prepare(files)
        return Forward(made, entry), ()

    if executor is None:
        return _first(files, files.manifest.executors, offered, prepare)
    _require_offered(files, executor, offered)
    return prepare(executor)


def _first_that_works(
    files: OpenBundle, offered: Mapping[str, ExecutorFactory]
) -> tuple[Halves, tuple[Reason, ...]]:
    names = files.manifest.executors
    return _first(files, names, offered, lambda name: _prepare(files, name, offered))


def _prepare(
    files: OpenBundle, name: str, offered: Mapping[str, ExecutorFactory]
) -> tuple[Halves, tuple[Reason, ...]]:
    """Both halves on the executor `name`, and why others were passed over for decode."""
    factory = offered[name]
    passed_over: tuple[Reason, ...] = ()
    prefill = factory()
    prefill.prepare(files, "prefill")
    try:
        if name in _PREFILL_ONLY:
            decode, passed_over = _other_decode(files, offered)
        else:
            decode = factory()
            decode.prepare(files, "decode")
    except BaseException:
        prefill.close()
        raise
    manifest = files.manifest
    halves = Halves(
        prefill,
        decode,
        files.contract,
        manifest.contract_sha256,
        manifest.model.vocab,
        manifest.model.max_context,
        manifest.request.batch,
    )
    return halves, passed_over


def _other_decode(
    files: OpenBundle, offered: Mapping[str, ExecutorFactory]
) -> tuple[Executor, tuple[Reason, ...]]:
    def prepare(name: str) -> tuple[Executor, tuple[Reason, ...]]:
        executor = offered[name]()
        executor.prepare(files, "decode")
        return executor, ()

    names = [name for name in files.manifest.executors if name not in _PREFILL_ONLY]
    return _first(files, names, offered, prepare)


def _first(
    files: OpenBundle,
    names: Sequence[str],
    offered: Mapping[str, object],
    prepare: Callable[[str], tuple[Prepared, tuple[Reason, ...]]],
) -> tuple[Prepared, tuple[Reason, ...]]:
    """What `prepare` gives for the first name that works, and why the ones before did not."""
    passed_over: list[Reason] = []
    for name in names:
        if name not in offered:
            passed_over.append(Reason("HETC-R002", "this installation does not have it", at=name))
            continue
        try:
            found, reasons = prepare(name)
            return found, (*passed_over, *reasons)
        except BundleError:
            # A file that cannot be trusted is no reason to run the others.
            raise
        except HetcError as error:
            what = f": {error.found}" if error.found else ""
            passed_over.append(Reason(error.code, error.what + what, at=name))
    raise RuntimeFault(
        "HETC-R003",
        "no executor can run this bundle here",
        at=str(files.root),
        expected="one of " + ", ".join(names),
        found="; ".join(map(str, passed_over)),
        do="install what is missing; hetc doctor shows what there is",
    )


def _require_offered(files: OpenBundle, name: str, offered: Mapping[str, object]) -> None:
    here = [known for known in files.manifest.executors if known in offered]
    if name in here:
        return
    raise RuntimeFault(
        "HETC-R002",
        "this bundle cannot run on that executor"
        if name in offered
        else "there is no such executor here",
        at=name,
        expected="one of " + ", ".join(here) if here else "none: no executor of the bundle is here",
        found=name,
    )
