"""The runtime: loads a bundle, prefills, hands off, decodes, gives text; imports no compiler."""

from hetc.runtime.bundle import Bundle
from hetc.runtime.executor import Executor, ExecutorFactory, Half
from hetc.runtime.generation import Generation, GenerationOptions, TextStream
from hetc.runtime.handoff import HandoffRecord, check_state, hand_off
from hetc.runtime.joined import Joined, Joins
from hetc.runtime.loader import load
from hetc.runtime.onnx_executor import OnnxOptions, onnx_executors
from hetc.runtime.sampling import SamplingOptions
from hetc.runtime.state import State
from hetc.runtime.tokenizer import Tokenizer

__all__ = [
    "Bundle",
    "Executor",
    "ExecutorFactory",
    "Generation",
    "GenerationOptions",
    "Half",
    "HandoffRecord",
    "Joined",
    "Joins",
    "OnnxOptions",
    "SamplingOptions",
    "State",
    "TextStream",
    "Tokenizer",
    "check_state",
    "hand_off",
    "load",
    "onnx_executors",
]
