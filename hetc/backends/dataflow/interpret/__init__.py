"""The plan interpreter: moves real tiles through a plan's memories, queues and stages.

It takes every address, order, size and credit from the plan, and from the graph only what the ops
mean, so that a wrong number in the plan gives a wrong answer or an error.
"""

from hetc.backends.dataflow.interpret.run import PlanRun
from hetc.backends.dataflow.interpret.verify import PlanCheck, verify_plan

__all__ = ["PlanCheck", "PlanRun", "verify_plan"]
