"""Pictures: where a plan's stages stand, when they work, and what bounds every op."""

from hetc.report.plots.floorplan import floorplan
from hetc.report.plots.gantt import gantt
from hetc.report.plots.png import png
from hetc.report.plots.roofline import roofline
from hetc.report.plots.scene import Scene
from hetc.report.plots.svg import svg

__all__ = ["Scene", "floorplan", "gantt", "png", "roofline", "svg"]
