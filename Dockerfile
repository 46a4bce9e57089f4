# One image trains and serves:
#   docker build --target serve --build-arg EXTRA=cpu --tag progan:0.1.0-cpu .
#
# BASE           the Python image; name a mirror's copy of it where the default cannot be pulled
# EXTRA          cpu or gpu: the TensorFlow of locks/service-<EXTRA>.txt
# REVISION       the commit that is built, which the metric progan_build_info reports
# SSL_CERT_FILE  the certificates pip and uv trust while building behind a proxy: a file that the builder mounts
ARG BASE=python:3.11-slim-bookworm

# What changes rarely: the locked dependencies.
FROM ${BASE} AS dependencies
ARG EXTRA=cpu
ARG SSL_CERT_FILE
# Bytecode is compiled now: a container with a read-only root would compile all of TensorFlow at every start.
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never PIP_CERT=$SSL_CERT_FILE
WORKDIR /build
RUN python -m venv /uv && /uv/bin/pip install --no-cache-dir uv==0.13.9
ENV PATH=/uv/bin:$PATH
COPY locks/service-${EXTRA}.txt locks/
# What neither serving nor training reads does not get into the layer: TensorFlow's C++ headers (287 MB), libclang (62 MB),
# the data server of TensorBoard (20 MB). `make release` runs all commands without them.
RUN uv venv /app/.venv && uv pip sync --python /app/.venv --require-hashes locks/service-${EXTRA}.txt \
 && rm -r /app/.venv/lib/python3*/site-packages/tensorflow/include \
          /app/.venv/lib/python3*/site-packages/clang \
          /app/.venv/lib/python3*/site-packages/tensorboard_data_server

# What changes often: our own two packages, the bundled model inside. uv builds them with its own backend, so that
# nothing is fetched here (--offline) and nothing unlocked gets in.
FROM dependencies AS packages
COPY protos protos
COPY service service
RUN uv pip install --python /app/.venv --prefix /packages --offline --no-deps --no-sources ./protos ./service

FROM ${BASE} AS serve
# Two layers: a change of our code leaves the large one as it is.
COPY --from=dependencies /app/.venv /app/.venv
COPY --from=packages /packages /app/.venv
# Only /tmp and the mounted volumes need to be writable: home is /tmp, and so is the cache of kernels CUDA compiles.
ENV PATH=/app/.venv/bin:$PATH HOME=/tmp CUDA_CACHE_PATH=/tmp/cuda PYTHONUNBUFFERED=1
# A high number that no user of a node has. It needs no name, and Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8500 8501
STOPSIGNAL SIGTERM
ARG REVISION
ENV PROGAN_REVISION=$REVISION
# What a registry shows of an image. The labels of a build that is not from here: --label org.opencontainers.image.source=...
LABEL org.opencontainers.image.title="ProGAN" \
      org.opencontainers.image.description="Train and serve Progressive GANs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision=$REVISION
ENTRYPOINT ["progan"]
CMD ["serve", "--host", "0.0.0.0"]
