"""`hetc plot`, `hetc export` and `hetc diff` on plans and bundles."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hetc.backends.dataflow.plan_file import plan_bytes
from hetc.backends.dataflow.schema import Plan, TargetRef
from hetc.cli import main
from tests.backends.dataflow.planned import ONE, TWO, planned
from tests.backends.dataflow.plans import Decoder, decoder
from tests.cli.conftest import Hetc
from tests.golden import Golden


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("format", ["svg", "png"])
def test_plot_a_plan(format: str, other_plan_file: Path, hetc: Hetc, tmp_path: Path) -> None:
    ran = hetc("plot", other_plan_file, "-o", tmp_path / "a", "--format", format)
    assert ran.code == 0, ran.err
    found = written(tmp_path / "a")
    sections = [f"floorplan-{section.id}.{format}" for section in planned(TWO).sections]
    assert set(found) == {*sections, f"gantt.{format}"}
    for name, data in found.items():
        assert any(name in line and f"{len(data):,}" in line for line in ran.out.splitlines())
    hetc("plot", other_plan_file, "-o", tmp_path / "b", "--format", format)
    assert written(tmp_path / "b") == found


def test_plot_a_bundle(bundle: Path, hetc: Hetc, tmp_path: Path) -> None:
    told = hetc("plot", bundle, "-o", tmp_path / "pictures", "--json").json
    names = {Path(file["path"]).name for file in told["files"]}
    assert {"roofline-prefill.svg", "roofline-decode.svg", "gantt.svg"} < names
    assert any(name.startswith("floorplan-") for name in names)
    for file in told["files"]:
        assert Path(file["path"]).stat().st_size == file["bytes"]
    report = (bundle / "report.html").read_text("utf-8")
    assert "The decode half on the chip" in report
    assert len(report) < 400_000


@pytest.mark.parametrize("format", ["netlist", "aie", "csv"])
def test_export(format: str, bundle: Path, plan_file: Path, hetc: Hetc, tmp_path: Path) -> None:
    for number, source in enumerate((bundle, plan_file)):
        path = tmp_path / f"{number}"
        ran = hetc("export", source, "--format", format, "-o", path, "--json")
        assert ran.code == 0, ran.out
        files = [Path(file["path"]) for file in ran.json["files"]]
        assert len(files) == (4 if format == "csv" else 1)
        assert all(file.parent == path for file in files) == (format == "csv")
        for file in files:
            assert "not accepted by any vendor tool" in file.read_text("utf-8").splitlines()[0]


def test_equal_plans(plan_file: Path, bundle: Path, hetc: Hetc, tmp_path: Path) -> None:
    ran = hetc("diff", plan_file, plan_file)
    assert (ran.code, ran.out) == (0, "equal\n")
    ran = hetc("diff", bundle, bundle, "--json")
    assert (ran.code, ran.json["equal"], ran.json["differences"]) == (0, True, [])
    again = tmp_path / "again.json"
    again.write_bytes(plan_bytes(msgspec.structs.replace(planned(ONE), tool="another tool")))
    assert hetc("diff", plan_file, again).code == 0, "who wrote it is no difference"


def edited(plan: Plan) -> Plan:
    """A plan with changes of every kind that a reader asks for."""
    layer = plan.blocks[1]
    attention = layer.stages[3]
    units = msgspec.structs.replace(attention.units, lanes=attention.units.lanes + 1)
    stages = list(layer.stages)
    stages[3] = msgspec.structs.replace(attention, units=units, split_rows=7)
    streams = list(layer.streams)
    streams[0] = msgspec.structs.replace(streams[0], depth_bytes=12345, ports=(0, 3), why="so")
    block = msgspec.structs.replace(layer, stages=tuple(stages), streams=tuple(streams))
    (section,) = plan.sections
    sites = section.sites | {"b1.s0.w0": (3, 7)}
    section = msgspec.structs.replace(
        section, sites=sites, routes=section.routes[1:], wirelength=section.wirelength + 10
    )
    memory = msgspec.structs.replace(plan.memory[0], offset=64, tier="ddr")
    assert plan.estimate is not None
    return msgspec.structs.replace(
        plan,
        tool="another",
        blocks=(plan.blocks[0], block, *plan.blocks[2:]),
        sections=(section,),
        memory=(memory, *plan.memory[1:]),
        estimate=msgspec.structs.replace(plan.estimate, tpot_us=99.5, mbu=0.25),
    )


def test_differences_of_plans(plan_file: Path, hetc: Hetc, tmp_path: Path) -> None:
    path = tmp_path / "edited.json"
    path.write_bytes(plan_bytes(edited(planned(ONE))))
    ran = hetc("diff", plan_file, path, "--json")
    assert ran.code == 1
    found = {
        (item["group"], item["name"], item["field"]): (item["a"], item["b"])
        for item in ran.json["differences"]
    }
    stage, stream = "b1 attention", "b1 norm: norm1"
    lanes = planned(ONE).blocks[1].stages[3].units.lanes
    assert found["stage", stage, "units.lanes"] == (lanes, lanes + 1)
    assert found["stage", stage, "split_rows"][1] == 7
    assert found["stream", stream, "depth_bytes"][1] == 12345
    assert found["stream", stream, "ports"][1] == [0, 3]
    assert found["section", "c0", "units on other sites"] == (0, 1)
    assert found["section", "c0", "nets that the other has not"] == (1, 0)
    before, after = found["section", "c0", "wirelength"]
    assert after == before + 10
    assert found["memory", "all", "tensors at other offsets"] == (0, 1)
    assert found["memory", "ddr", "there"] == (False, True)
    assert found["estimate", "", "tpot_us"][1] == 99.5
    assert found["estimate", "", "mbu"][1] == 0.25
    groups = [item["group"] for item in ran.json["differences"]]
    assert groups == sorted(groups, key=groups.index), "a kind of thing at a time"


def test_the_table_of_differences(hetc: Hetc, tmp_path: Path, golden: Golden) -> None:
    """Of plans by hand, whose numbers no planner changes."""
    shapes = Decoder(layers=4), Decoder(layers=6, overlap=False, depth=0.5)
    for name, shape in zip("ab", shapes, strict=True):
        (tmp_path / name).write_bytes(plan_bytes(decoder(shape)))
    ran = hetc("diff", tmp_path / "a", tmp_path / "b")
    assert ran.code == 1
    golden("diff.txt", ran.out)


def test_bundles_whose_ops_moved(model: Path, bundle: Path, hetc: Hetc, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert hetc("compile", model, "-o", other, "--decode", "h200", "--prefill", "h200").code == 0
    ran = hetc("diff", bundle, other, "--json")
    assert ran.code == 1
    found = {(item["group"], item["name"], item["field"]): item for item in ran.json["differences"]}
    assert found["bundle", "targets", "decode"]["b"] == "h200"
    assert found["bundle", "decode", "plan"] == {
        "group": "bundle",
        "name": "decode",
        "field": "plan",
        "a": True,
        "b": False,
    }
    moved = [item for item in ran.json["differences"] if item["group"] == "op"]
    assert any("layers.0-1." in item["name"] for item in moved)
    assert all(item["field"] == "device" and item["a"] != item["b"] for item in moved)
    assert hetc("diff", bundle, other).out.startswith(f"{len(found)} differences\n")


BAD = (
    ("diff {plan} nowhere", "HETC-L001", "nowhere"),
    ("diff {bundle} {model}", "HETC-L001", "directory"),
    ("diff {gpu} {plan}", "HETC-U012", "no spatial plan"),
    ("export {gpu} --format csv -o {out}", "HETC-U012", "no spatial plan"),
    ("export {plan} --format vhdl -o {out}", "HETC-U004", "netlist"),
    ("export {plan} --format csv", "HETC-U004", "--output"),
    ("export {text} --format csv -o {out}", "HETC-L001", "not a plan"),
    ("export {old} --format aie -o {out}", "HETC-L002", "hetc.plan/0"),
    ("export {moved} --format aie -o {out}", "HETC-L011", "another machine"),
    ("export {plan} --target h200 --format aie -o {out}", "HETC-L011", "h200"),
    ("export {plan} --format aie -o {out}/no/such.mlir", "HETC-U014", "such.mlir"),
    ("plot {unknown} -o {out}", "HETC-T001", "no-such-chip"),
    ("plot {plan} -o {out} --format pdf", "HETC-U004", "svg"),
    ("plot {plan} -o {plan}", "HETC-U004", "is a file"),
    ("plot nowhere -o {out}", "HETC-L001", "nowhere"),
)


@pytest.fixture
def places(model: Path, bundle: Path, plan_file: Path, tmp_path: Path) -> dict[str, Path]:
    """Good and bad inputs by the names that stand in `BAD`."""
    plan = planned(ONE)
    made = {name: tmp_path / name for name in ("text", "old", "moved", "unknown", "out")}
    made["text"].write_text("{}", encoding="utf-8")
    made["old"].write_bytes(plan_bytes(msgspec.structs.replace(plan, schema="hetc.plan/0")))
    for name, ref in (
        ("moved", msgspec.structs.replace(plan.target, sha256="0" * 64)),
        ("unknown", TargetRef(name="no-such-chip", sha256="", sockets=1)),
    ):
        made[name].write_bytes(plan_bytes(msgspec.structs.replace(plan, target=ref)))
    return {"model": model, "bundle": bundle, "plan": plan_file, **made}


@pytest.fixture(scope="session")
def gpu_bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose decode half runs on a GPU, and so has no spatial plan."""
    path = tmp_path_factory.mktemp("gpu") / "bundle"
    assert main(["compile", str(model), "-o", str(path), "--decode", "h200"]) == 0
    return path


@pytest.mark.parametrize(("line", "code", "told"), BAD)
def test_bad_input(
    line: str, code: str, told: str, places: dict[str, Path], gpu_bundle: Path, hetc: Hetc
) -> None:
    words = line.format(gpu=gpu_bundle, **places).split()
    ran = hetc(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"error[{code}]: ")
    assert told in ran.err
    assert hetc(*words, "--json").json["error"]["code"] == code
