"""What the metrics of a server count."""

import re
from pathlib import Path

from progan_v1 import FAIL, PATIENCE_S, PNG, Guest, configured, guest, refusal

from progan_protos.v1 import image_generator_pb2 as pb


def test_metrics_count_calls_by_method_model_and_code(puppets: Guest) -> None:
    lines = {
        code: f'progan_requests_total{{code="{code}",method="Generate",model="puppet"}}'
        for code in ("OK", "INVALID_ARGUMENT", "INTERNAL")
    }
    before = {code: puppets.metric(line) for code, line in lines.items()}
    puppets.generate((0, 0, 0, 1))
    refusal(lambda: puppets.generate((0, 0, 0, 0)))
    refusal(lambda: puppets.generate(FAIL))
    assert {code: puppets.metric(line) - before[code] for code, line in lines.items()} == dict.fromkeys(lines, 1)


def test_metrics_of_listing_belong_to_no_model(puppets: Guest) -> None:
    puppets.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S)
    assert puppets.metric('progan_requests_total{code="OK",method="ListModels",model=""}') > 0


def test_a_name_that_a_caller_made_up_is_not_in_the_metrics(puppets: Guest) -> None:
    refusal(lambda: puppets.generate((0, 0, 0, 1), model=pb.ModelSelector(name="invented")))
    refusal(lambda: puppets.stub.GetModel(pb.GetModelRequest(name="invented"), timeout=PATIENCE_S))
    _, page = puppets.http("/metrics")
    assert "invented" not in page
    assert puppets.metric('progan_requests_total{code="NOT_FOUND",method="Generate",model=""}') > 0


def test_metrics_tell_images_batches_models_and_the_process(puppets: Guest) -> None:
    images = 'progan_images_total{model="puppet",version="2"}'
    padding = "progan_batch_padding_rows_total"
    before = puppets.metric(images), puppets.metric(padding)
    puppets.generate(*[(0, 0, 0, 1)] * 3)
    assert (puppets.metric(images), puppets.metric(padding)) == (before[0] + 3, before[1] + 1)
    status, page = puppets.http("/metrics")
    assert status == 200
    for line in (
        'progan_model_ready{model="puppet"} 1.0',
        'progan_model_load_failures_total{model="puppet",reason="invalid"} 1.0',
        'progan_inference_duration_seconds_count{batch_size="4",model="puppet",version="2"}',
        'progan_queue_rows{model="puppet",priority="interactive"} 0.0',
        "process_resident_memory_bytes",
    ):
        assert line in page
    assert re.search(
        r'progan_model_info\{digest="sha256:[0-9a-f]{64}",model="puppet",'
        r'precision="float32",resolution="4",version="2"\} 1.0',
        page,
    )


def test_metrics_tell_the_precision_of_a_version(tiny_store: Path) -> None:
    with guest(configured(tiny_store, model="tiny", precision="bfloat16")) as host:
        _, page = host.http("/metrics")
    assert 'model="tiny",precision="bfloat16",resolution="8",version="1"} 1.0' in page


def test_metrics_measure_encoding_by_format(puppets: Guest) -> None:
    puppets.generate((0, 0, 0, 1), format=PNG)
    assert puppets.metric('progan_encode_duration_seconds_count{format="PNG"}') > 0


def test_any_other_path_leads_nowhere(puppets: Guest) -> None:
    assert puppets.http("/x") == (404, '{"error": "there is nothing at this path"}')
    assert puppets.http("/livez?verbose")[0] == 200
