"""A loaded bundle: what a user of the runtime holds."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import Contract, Manifest, OpenBundle
from hetc.bundle.schema import without_phases
from hetc.errors import BundleError, Reason, RuntimeFault
from hetc.runtime.forward import Forward
from hetc.runtime.generate import Run
from hetc.runtime.generation import Generation, GenerationOptions, TextStream
from hetc.runtime.halves import Halves
from hetc.runtime.handoff import check_state
from hetc.runtime.joined import Joined
from hetc.runtime.sampling import SamplingOptions
from hetc.runtime.state import State
from hetc.runtime.tokenizer import Tokenizer


class Options(TypedDict, total=False):
    """The keyword arguments of `Bundle.generate`, for its overloads."""

    max_new_tokens: int
    chat: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    stop: str | Sequence[str]
    ignore_eos: bool
    seed: int | None


TokenIds = Sequence[int] | NDArray[np.integer[Any]]


class Bundle:
    """A bundle with its halves ready to run; a context manager. `hetc.runtime.load` makes it.

    `fallbacks` says which executors were passed over, and why. A bundle made without weights can be
    inspected; everything that runs raises RuntimeFault HETC-R001 on it, and HETC-R004 once closed.
    """

    def __init__(
        self,
        files: OpenBundle,
        runs: Halves | Forward | None,
        tokenizer: Tokenizer | None,
        fallbacks: tuple[Reason, ...] = (),
    ) -> None:
        self._files = files
        self._runs = runs
        self._tokenizer = tokenizer
        self._closed = False
        self.fallbacks = fallbacks

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._files.manifest

    @property
    def contract(self) -> Contract:
        """What passes from prefill to decode, and in which form; raises BundleError (HETC-B017) for
        a bundle without phases."""
        return self._files.contract

    @property
    def files(self) -> OpenBundle:
        """The checked files."""
        return self._files

    @property
    def executors(self) -> dict[str, str]:
        """Which executor runs which half, or `forward`; empty for a plan."""
        if self._runs is None:
            return {}
        if isinstance(self._runs, Forward):
            return {"forward": self._runs.executor.name}
        return {
            "prefill": self._runs.prefill_executor.name,
            "decode": self._runs.decode_executor.name,
        }

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; raises RuntimeFault HETC-R030 where the bundle has none."""
        if self._tokenizer is None:
            raise RuntimeFault(
                "HETC-R030",
                "this bundle has no tokenizer",
                at=str(self._files.root),
                do="pass token ids instead of text, or compile from a model with a tokenizer",
            )
        return self._tokenizer

    @overload
    def generate(
        self, prompt: str | TokenIds, *, stream: Literal[True], **options: Unpack[Options]
    ) -> TextStream: ...

    @overload
    def generate(
        self, prompt: str | TokenIds, *, stream: Literal[False] = False, **options: Unpack[Options]
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...] | Sequence[TokenIds],
        *,
        stream: Literal[False] = False,
        **options: Unpack[Options],
    ) -> list[Generation]: ...

    def generate(
        self,
        prompt: str | TokenIds | list[str] | tuple[str, ...] | Sequence[TokenIds],
        *,
        max_new_tokens: int = 128,
        stream: bool = False,
        chat: bool = False,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
    ) -> Generation | list[Generation] | TextStream:
        """Answer one prompt, or several as a list; a prompt is text or token ids.

        Prompts of equal length are prefilled as one batch, and the executor `native` decodes up to
        16 of any lengths together, or as many as the bundle was compiled for where these are more.
        `chat` puts each text into the model's chat template as a user's message. `stream` gives the
        text of one prompt piece by piece. Greedy unless `temperature` is above 0; see
        `SamplingOptions` and `GenerationOptions` for the rest. Raises RuntimeFault (HETC-R0xx)
        before anything runs where a prompt or an option cannot work.
        """
        sampling = SamplingOptions(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        options = GenerationOptions(max_new_tokens, stops, ignore_eos, sampling)
        halves = self._require_halves()
        several = _is_several(prompt)
        prompts = [self._encode(one, chat) for one in (prompt if several else (prompt,))]
        if stream and several:
            raise RuntimeFault(
                "HETC-R024",
                "a stream is of one prompt",
                found=f"{len(prompts)} prompts",
                do="stream them one by one, or generate without stream",
            )
        if stream:
            # Without a tokenizer there is no text, and a silent stream would be a riddle.
            run = Run(halves, self.tokenizer, prompts, options)
            return TextStream(run.texts(), lambda: run.results()[0])
        run = Run(halves, self._tokenizer, prompts, options)
        for _ in run.pieces():
            pass
        return run.results() if several else run.results()[0]

    def run(self, *inputs: Any, **named: Any) -> dict[str, NDArray[Any]]:
        """Call the one function of a bundle without phases: arrays in, arrays by name out.

        `inputs` are in the order of the manifest's, `named` are by name; floats leave in f32 at
        least. Raises BundleError (HETC-B018) for a bundle with phases, RuntimeFault HETC-R070 for
        inputs of another number or type, HETC-R071 for sizes that do not fit.
        """
        runs = self._require_runs()
        if not isinstance(runs, Forward):
            raise BundleError(
                "HETC-B018",
                "this bundle has two phases and is not one function",
                at=str(self._files.root),
                do="use generate, or prefill and decode; or compile again with --phases none",
            )
        return runs(inputs, named)

    def prefill(self, tokens: TokenIds | Sequence[TokenIds]) -> tuple[NDArray[Any], State]:
        """Run the prefill half on `tokens` [S] or [B, S].

        Returns the last position's logits, f32 [B, 1, V], and the state for `decode`.
        """
        halves = self._require_halves()
        return halves.prefill(halves.as_tokens(tokens))

    def decode(
        self, tokens: TokenIds | Sequence[TokenIds], state: State
    ) -> tuple[NDArray[Any], State]:
        """Run the decode half on `tokens` [T] or [B, T] after `state`, which is spent by it.

        A state of the prefill half passes the hand-off first. Returns logits f32 [B, T, V] and the
        new state; `state.copy()` before the call forks. All sequences of a state are at one
        position; `join` puts several states together.
        """
        halves = self._require_halves()
        checked = halves.as_tokens(tokens)
        return halves.decode(checked, _handed_off(halves, state))

    def join(self, states: Sequence[State]) -> Joined:
        """Put the sequences of `states` together, each at its own position, for `decode_joined`.

        States of the prefill half pass the hand-off first; all are spent by it, and
        `Joined.split` gives a state for each sequence again. The executor `native` copies them
        into one cache and decodes them in one call; others run state after state. Raises
        RuntimeFault as `decode` does.
        """
        halves = self._require_halves()
        # Before the first of them is spent.
        for state in states:
            check_state(state, halves.contract, halves.contract_sha256, owner=state.owner)
        return halves.join([_handed_off(halves, state) for state in states])

    def decode_joined(
        self, tokens: TokenIds | Sequence[TokenIds], joined: Joined
    ) -> NDArray[np.float32]:
        """Run the decode half on `tokens` [T] or [B, T], a row for each sequence of `joined`.

        Returns logits f32 [B, T, V]; `joined` is behind the tokens afterwards. Raises RuntimeFault
        HETC-R010 where it is spent, R011 for another bundle's, R014 for another number of rows,
        R022 beyond the context.
        """
        halves = self._require_halves()
        return halves.decode_joined(halves.as_tokens(tokens), joined)

    def close(self) -> None:
        """Let go of the executors and the files; a second call does nothing."""
        if not self._closed:
            self._closed = True
            if self._runs is not None:
                self._runs.close()
            self._files.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _encode(self, prompt: Any, chat: bool) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode_chat(prompt) if chat else self.tokenizer.encode(prompt)
        if chat:
            raise RuntimeFault(
                "HETC-R020",
                "a chat is made of text",
                found="token ids",
                do="pass text, or ids that hold the chat already, without chat",
            )
        return prompt.tolist() if isinstance(prompt, np.ndarray) else list(prompt)

    def _require_halves(self) -> Halves:
        runs = self._require_runs()
        if isinstance(runs, Forward):
            raise without_phases(runs.entry.reason)
        return runs

    def _require_runs(self) -> Halves | Forward:
        if self._closed:
            raise RuntimeFault(
                "HETC-R004",
                "this bundle was closed",
                at=str(self._files.root),
                do="load it again",
            )
        if self._runs is None:
            raise RuntimeFault(
                "HETC-R001",
                "this bundle is a plan: it was made without weights and cannot run",
                at=str(self._files.root),
                expected="a runnable bundle",
                found="kind plan",
                do="compile from a model with weights; hetc inspect shows what is in a plan",
            )
        return self._runs


def _handed_off(halves: Halves, state: State) -> State:
    """`state` as decode's."""
    return halves.hand_off(state)[0] if state.owner == "prefill" else state


def _is_several(prompt: object) -> bool:
    """Whether a prompt argument is a list of prompts; one prompt is text, integers or an array."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return False
    return bool(prompt) and not isinstance(prompt[0], int | np.integer)
