"""Serve images over HTTP: GET /images/1337.png

pip install fastapi uvicorn
uvicorn fastapi_endpoint:app
"""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response

from progan_client import ArgumentError, AsyncClient, ResourceExhaustedError, UnavailableError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/images/{seed}.png")
async def image(seed: int, request: Request) -> Response:
    client: AsyncClient = request.app.state.client
    try:
        images = await client.generate(seed=seed, encoding="png")
    except ArgumentError as error:
        raise HTTPException(422, str(error)) from error
    except (ResourceExhaustedError, UnavailableError) as error:
        raise HTTPException(503, str(error), {"Retry-After": str(math.ceil(error.retry_after_s or 1))}) from error
    return Response(images.files[0], media_type="image/png")
