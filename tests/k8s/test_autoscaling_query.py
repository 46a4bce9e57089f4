"""What the query of the autoscaler answers, by Prometheus' own evaluation."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus import tool

pytestmark = pytest.mark.check

SCALED = Path(__file__).parents[2] / "k8s/components/autoscaling/scaled-object.yaml"
QUERY = yaml.safe_load(SCALED.read_text())["spec"]["triggers"][0]["metadata"]["query"]


def series(name: str, value: float, **labels: str) -> dict[str, str]:
    """A counter that grows by so much in a second, or a gauge that stays, with a sample every 15 s for ten minutes."""
    written = ",".join(f'{label}="{text}"' for label, text in {"namespace": "progan", **labels}.items())
    values = f"0+{15 * value:g}x40" if name.endswith("_total") else f"{value:g}x40"
    return {"series": f"{name}{{{written}}}", "values": values}


def server(pod: str, model: str, images_s: float, refused_s: float, capacity: float) -> list[dict[str, str]]:
    """What a server shows of a model that it has loaded."""
    return [
        series("progan_ready", 1, pod=pod),
        series("progan_images_total", images_s, pod=pod, model=model, version="1"),
        series("progan_rows_dropped_total", refused_s, pod=pod, model=model, reason="rejected"),
        series("progan_rows_dropped_total", 0, pod=pod, model=model, reason="expired"),
        series("progan_rows_dropped_total", 100, pod=pod, model=model, reason="cancelled"),
        series("progan_capacity_images_per_second", capacity, pod=pod, model=model),
    ]


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        pytest.param(server("a", "faces", 50, 0, 100) + server("b", "faces", 90, 0, 100), 1.4, id="two-servers"),
        pytest.param(server("a", "faces", 100, 300, 100), 4, id="refused-images-were-asked-for"),
        pytest.param(server("a", "faces", 50, 0, 100) + server("a", "cats", 10, 0, 20), 1, id="models-share-devices"),
        pytest.param([series("progan_ready", 0, pod="a")], 0, id="no-model-is-loaded"),
        pytest.param([], None, id="no-server-is-scraped"),
        pytest.param(
            server("a", "faces", 50, 0, 100)
            + [
                {**one, "series": one["series"].replace('"progan"', '"other"')} for one in server("x", "faces", 9, 9, 9)
            ],
            0.5,
            id="another-installation",
        ),
    ],
)
def test_the_servers_that_the_load_would_fill(
    tmp_path: Path, shown: list[dict[str, str]], answer: float | None
) -> None:
    unique = list({one["series"]: one for one in shown}.values())
    samples = [] if answer is None else [{"labels": "{}", "value": answer}]
    expected = {"expr": QUERY, "eval_time": "10m", "exp_samples": samples}
    test = {"interval": "15s", "input_series": unique, "promql_expr_test": [expected]}
    (tmp_path / "test.yml").write_text(json.dumps({"evaluation_interval": "15s", "tests": [test]}))
    ran = subprocess.run([tool("promtool"), "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
