"""Asks a server for images by TensorFlow Serving's own stubs, and says as JSON what came. Needs TensorFlow.

python tfserving_clients.py GRPC_ADDRESS HTTP_ADDRESS MODEL LATENTS.npy [TOKEN]
"""

import json
import sys
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from asked import SEEDS, digest
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def main(grpc_target: str, http_target: str, model: str, latents_file: str, token: str = "") -> None:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    channel = grpc.insecure_channel(grpc_target, [("grpc.max_receive_message_length", -1)])
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    def images(signature: str, name: str, rows: NDArray[Any]) -> str:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        request.inputs[name].CopyFrom(tf.make_tensor_proto(rows))
        reply = prediction.Predict(request, timeout=60, metadata=metadata)
        return digest(tf.make_ndarray(reply.outputs["images"]))

    status = get_model_status_pb2.GetModelStatusRequest()
    described = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    status.model_spec.name = described.model_spec.name = model
    seen = {
        "latents": images("generate_uint8", "latents", np.load(latents_file)),
        "seeds": images("seeds_uint8", "seeds", SEEDS),
        "float16": images("generate_uint8", "latents", np.load(latents_file).astype(np.float16)),
        "states": [one.state for one in models.GetModelStatus(status, metadata=metadata).model_version_status],
        "metadata": sorted(prediction.GetModelMetadata(described, metadata=metadata).metadata),
    }
    print(json.dumps({"tensorflow serving": seen}))


main(*sys.argv[1:])
