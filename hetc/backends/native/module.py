"""The MLIR module around a function: its signature, the barrier, what it calls of the system."""

from __future__ import annotations

from hetc.backends.native.ssa import I32, Emitter, Ssa

FUNCTION = "half"
_SPINS_BEFORE_YIELD = 1000
# The counter and the generation lie in cache lines of their own.
GENERATION_OFFSET = 64
BARRIER_BYTES = 128


def module_text(body: Emitter) -> str:
    """The module whose function `half(%args)` is `body`."""
    isa, target = body.isa, ""
    if isa.target is not None:
        cpu, feature = isa.target
        features = f'#llvm.target_features<["{feature}"]>'
        target = f', llvm.target_cpu = "{cpu}", llvm.target_features = {features}'
    return _MODULE.format(
        function=FUNCTION,
        body=body.text(),
        pause=isa.pause,
        target=target,
        generation=GENERATION_OFFSET,
        spins=_SPINS_BEFORE_YIELD,
    )


def barrier(e: Emitter, address: Ssa, threads: Ssa) -> None:
    """Wait until all `threads` (i32) are here."""
    e.line(f"func.call @barrier({address.name}, {threads.name}) : (!llvm.ptr, {I32}) -> ()")


# A waiting thread gives its core away after some time: were it to spin on, a thread that has none
# could not come to the barrier.
_MODULE = """module {{
llvm.func @sched_yield() -> i32
func.func private @barrier(%at: !llvm.ptr, %threads: i32) {{
  %one = arith.constant 1 : i32
  %zero = arith.constant 0 : i32
  %spins = arith.constant {spins} : i32
  %generation = llvm.getelementptr %at[{generation}] : (!llvm.ptr) -> !llvm.ptr, i8
  %now = llvm.load %generation atomic acquire {{alignment = 4 : i64}} : !llvm.ptr -> i32
  %before = llvm.atomicrmw add %at, %one acq_rel {{alignment = 4 : i64}} : !llvm.ptr, i32
  %arrived = arith.addi %before, %one : i32
  %last = arith.cmpi eq, %arrived, %threads : i32
  scf.if %last {{
    llvm.store %zero, %at atomic monotonic {{alignment = 4 : i64}} : i32, !llvm.ptr
    %next = arith.addi %now, %one : i32
    llvm.store %next, %generation atomic release {{alignment = 4 : i64}} : i32, !llvm.ptr
  }} else {{
    %waited = scf.while (%count = %zero) : (i32) -> i32 {{
      %seen = llvm.load %generation atomic acquire {{alignment = 4 : i64}} : !llvm.ptr -> i32
      %wait = arith.cmpi eq, %seen, %now : i32
      scf.condition(%wait) %count : i32
    }} do {{
    ^bb0(%count: i32):
      {pause}
      %more = arith.addi %count, %one : i32
      %tired = arith.cmpi uge, %more, %spins : i32
      scf.if %tired {{
        %ignored = llvm.call @sched_yield() : () -> i32
      }}
      %again = arith.select %tired, %zero, %more : i32
      scf.yield %again : i32
    }}
  }}
  return
}}
func.func @{function}(%args: !llvm.ptr) attributes {{llvm.emit_c_interface{target}}} {{
{body}
return
}}
}}
"""
