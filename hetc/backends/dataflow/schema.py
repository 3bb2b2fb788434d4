"""The plan of a decode half on a spatial dataflow machine, schema `hetc.plan/2`.

One schema goes in and comes out. A user may give any *requested* field (`Request`): tiling, lanes,
depths, pins; the planner answers with the whole *resolved* plan, which repeats the request. All
sockets of a tensor-parallel group are alike: one is described, and `shards` says which part of each
tensor a socket holds.

Vocabulary: a *block* is a straight run of ops of the socket's graph (what stands before the
layers, one layer, what stands after); a *stage* is a group of ops that is resident on units of its
own; a *stream* is a tensor that flows from memory to a stage; a *section* is a set of stages that
is on the chip at one time. A *lane* is a compute unit (PCU) with the memory unit (PMU) beside it.

Units stand in the names: bytes, cycles of the fabric's clock, microseconds. docs/plan-format.md is
the written form of this file.
"""

from __future__ import annotations

from typing import Literal

from hetc.backends.dataflow.part import Part
from hetc.backends.dataflow.steps import Program

SCHEMA = "hetc.plan/2"

Template = Literal[
    "gemv",  # a matrix times one row
    "gemm",  # a matrix times several rows
    "experts",  # chosen matrices of a mixture of experts
    "attention",  # queries over the state
    "norm",
    "rotary",
    "elementwise",
    "topk",
    "scan",
    "conv",
    "lookup",  # rows of a table by token
    "all_reduce",
    "all_gather",
    "generic",  # any other op, in the interpreter's NumPy semantics
]
Form = Literal["axpy", "dot", ""]
Tier = str  # the name of a memory of the target: hbm, ddr, dram
Bound = Literal["memory", "compute", "link", "latency"]


class TargetRef(Part, frozen=True, kw_only=True):
    """The machine: `sn40l:8` is eight sockets of `sn40l`. `sha256` is that of its target file."""

    name: str
    sha256: str
    sockets: int


class Bindings(Part, frozen=True, kw_only=True):
    """The sizes that the plan was made for: `past` tokens are in the state when a step begins, and
    memory holds `context` of them for each of `batch` sequences."""

    batch: int
    past: int
    context: int


class Tiling(Part, frozen=True, kw_only=True):
    """One tile of a matrix: `outputs` x `inputs` of its elements, over all lanes of the stage.

    `rows` is how many tokens of a pass, or rows of the state, a tile serves or holds.
    """

    outputs: int
    inputs: int
    rows: int


class Units(Part, frozen=True, kw_only=True):
    """What a stage occupies: work lanes (PCU and PMU), memory units that hold copies of its input,
    compute units that add the parts of a split K, and memory units that hold its output."""

    lanes: int
    x_copies: int = 0
    reducers: int = 0
    outputs: int = 0

    @property
    def pcus(self) -> int:
        return self.lanes + self.reducers

    @property
    def pmus(self) -> int:
        return self.lanes + self.x_copies + self.outputs


class Depends(Part, frozen=True, kw_only=True):
    """A stage that must run first, `barrier`: to its end, or `stream`: chunk by chunk.

    In the same iteration, or in the one before (`carried`: nothing in the first). A stage of
    another block: in its latest iteration.
    """

    stage: str
    kind: Literal["barrier", "stream"]
    carried: bool = False


class Collective(Part, frozen=True, kw_only=True):
    """An exchange between sockets: the vector's bytes, how it is sent, and what that takes.

    `one-shot`: everybody sends to everybody and adds; `two-shot`: reduce-scatter, then all-gather.
    `wire_cycles` are for the whole vector, of which one of `chunks` is left when the producer ends.
    """

    algorithm: Literal["one-shot", "two-shot"]
    bytes: int
    chunks: int
    wire_cycles: float
    latency_cycles: float


class Stage(Part, frozen=True, kw_only=True):
    """Ops that run together on units of their own.

    `ops` count in the ops of the block's graph. `rate_bytes_per_cycle` is how fast the lanes take
    the stage's streams, `work_cycles` what they compute beside that, `latency_cycles` from the last
    tile in to the last result out: each in one pass, which is of one row group. `split_k` lanes
    share an output, each with a part of K; `split_rows` lanes have the same ones, for other rows.
    """

    id: str
    name: str
    template: Template
    ops: tuple[int, ...]
    depends: tuple[Depends, ...] = ()
    streams: tuple[str, ...] = ()
    form: Form = ""
    tiling: Tiling | None = None
    split_k: int = 1
    split_rows: int = 1
    units: Units
    rate_bytes_per_cycle: float
    work_cycles: float
    latency_cycles: float
    bound: Bound
    collective: Collective | None = None


class Stream(Part, frozen=True, kw_only=True):
    """Tensors that flow from memory to a stage, in this order, tile by tile, once an iteration.

    `bytes` is what one iteration moves (the expectation, for chosen experts); `tile_bytes` all but
    the last tile have. `depth_bytes` are the credits: what may be on its way or wait in the memory
    units of the stage. `ports` are the memory ports (AGCUs) that its lanes are bound to. `after`
    names the stage whose result the addresses depend on.
    """

    id: str
    stage: str
    tensors: tuple[str, ...]
    kind: Literal["weight", "state", "expert", "lookup"]
    tier: Tier
    bytes: int
    tile_bytes: int
    depth_bytes: int
    ports: tuple[int, ...]
    after: str | None = None
    why: str

    def parts(self, row_groups: int) -> int:
        """In how many parts an iteration's bytes are fetched and taken: a state's in one for each
        row group, while everything else comes once and stays until all groups have passed."""
        return row_groups if self.kind == "state" else 1


class Issue(Part, frozen=True, kw_only=True):
    """One entry of a tier's queue: all tiles of `stream`, `ahead` iterations before their turn."""

    stream: str
    ahead: int = 0


class Append(Part, frozen=True, kw_only=True):
    """New rows of the state, written behind the computation: `value` is the op that makes them.

    `ring` rows are kept where the state is a window; the whole state is replaced where `whole`.
    """

    stage: str
    tensor: str
    op: int
    bytes: int
    ring: int | None = None
    whole: bool = False


class Buffer(Part, frozen=True, kw_only=True):
    """Activations between stages: in the output units of the producer, or through HBM where ops are
    not fused."""

    id: str
    producer: str
    consumers: tuple[str, ...]
    tier: Tier = "sram"
    bytes: int
    tile_bytes: int
    depth_bytes: int
    why: str


class Block(Part, frozen=True, kw_only=True):
    """A straight run of the socket's graph, executed `repeat` times in a row.

    A layer: `graph` is its name and `calls` the ops of the main graph that call it, one an
    iteration. What stands between layers: ops of the main graph, `calls` empty. `issue` is the
    order of the memory queue for one iteration.

    The sequences of the batch pass its stages in `row_groups` equal groups, one behind the other: a
    stage works on one while the next stage works on the group before. What an iteration reads,
    writes and sends is said for all groups together.
    """

    id: str
    graph: str
    repeat: int
    calls: tuple[int, ...] = ()
    stages: tuple[Stage, ...]
    streams: tuple[Stream, ...]
    issue: tuple[Issue, ...]
    appends: tuple[Append, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    row_groups: int = 1


class Route(Part, frozen=True, kw_only=True):
    """A routed net: its kind, what it carries, and its tree as run-length paths, `[x, y, "E7N2"]`.

    docs/plan-format.md says what a coordinate and a hop are.
    """

    net: str
    kind: str
    network: Literal["vector", "scalar"]
    vc: int
    bytes_per_cycle: float
    paths: tuple[tuple[int, int, str], ...]


class Resources(Part, frozen=True, kw_only=True):
    """What a section occupies of a socket, and what there is."""

    pcus: int
    pcus_of: int
    pmus: int
    pmus_of: int
    sram_bytes: int
    sram_bytes_of: int
    ports: int
    ports_of: int


class Section(Part, frozen=True, kw_only=True):
    """The stages that are on the chip at one time; `sites` gives the lane site of each unit."""

    id: str
    stages: tuple[str, ...]
    resources: Resources
    sites: dict[str, tuple[int, int]]
    routes: tuple[Route, ...]
    wirelength: int = 0
    baseline_wirelength: int = 0


class Allocation(Part, frozen=True, kw_only=True):
    """A tensor, or rows of it, in a memory tier: iteration i lies at `offset + i * stride`.

    `rows` count along the axis that the tensor is cut by: outputs of a matrix, experts, rows of a
    table, cached tokens. A tensor that is both table and matrix is stored once for each `use`.
    `live` names the blocks from the first to the last that use it.
    """

    block: str
    tensor: str
    kind: Literal["weight", "state"]
    use: Literal["matrix", "vector", "table", "state"]
    tier: Tier
    rows: tuple[int, int]
    offset: int
    bytes: int
    stride: int
    count: int
    live: tuple[str, str]


class ShardOf(Part, frozen=True, kw_only=True):
    """Which part of the model's tensor a socket holds: socket r of n has part r * parts // n of
    `axis`, after that axis was cut in `groups`; all of it where `axis` is None."""

    block: str
    tensor: str
    axis: int | None
    parts: int = 1
    groups: int = 1


class Pin(Part, frozen=True, kw_only=True):
    """A unit or stage whose place the user fixed."""

    unit: str
    site: tuple[int, int]


class StageRequest(Part, frozen=True, kw_only=True):
    """What a user fixed of the stages whose name matches the glob `stage`."""

    stage: str
    lanes: int | None = None
    tiling: Tiling | None = None
    split_k: int | None = None
    depth_bytes: int | None = None


class Request(Part, frozen=True, kw_only=True):
    """What the user fixed; everything else is the planner's choice.

    `row_groups` are those of every block that can have some, 1 for none. `looping`, `prefetch`,
    `overlap` and `fused` switch techniques off, to see what each gives.
    """

    stages: tuple[StageRequest, ...] = ()
    pins: tuple[Pin, ...] = ()
    looping: bool = True
    prefetch: bool = True
    overlap: bool = True
    fused: bool = True
    row_groups: int | None = None
    seed: int = 0
    place_moves: int | None = None


class Constant(Part, frozen=True, kw_only=True):
    """A number of the target file that the estimate used, and where it is from."""

    name: str
    value: float
    source: str


class Estimate(Part, frozen=True, kw_only=True):
    """What the simulator says of one token; simulated, and calibrated only where it says so.

    `bytes_read` is per socket and token, `unique_bytes` the model's own, over all sockets. `mbu` is
    the bytes read over time and peak bandwidth, `mbu_bound` what the efficiency of HBM allows.
    """

    model: str
    calibrated: bool
    tpot_us: float
    tokens_per_s: float
    bytes_read: int
    unique_bytes: int
    mbu: float
    mbu_bound: float
    bottleneck: str
    constants: tuple[Constant, ...]


class Check(Part, frozen=True, kw_only=True):
    """A verdict of the linter, with the numbers that it compared."""

    code: str
    ok: bool
    text: str


class Plan(Part, frozen=True, kw_only=True):
    """The whole of it. `graph_sha256` is the digest of the socket's graph as text."""

    schema: str
    tool: str
    target: TargetRef
    graph_sha256: str
    bindings: Bindings
    request: Request
    blocks: tuple[Block, ...]
    sections: tuple[Section, ...]
    program: Program
    memory: tuple[Allocation, ...]
    shards: tuple[ShardOf, ...]
    estimate: Estimate | None = None
    checks: tuple[Check, ...] = ()
