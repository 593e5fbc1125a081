# syntax=docker/dockerfile:1
# One image for every role: `streamrec worker`, `streamrec train`, `streamrec topics create`.

FROM python:3.11.14-slim-bookworm AS build
# PyTorch's CPU builds; plain PyPI would add several GB of CUDA on Linux.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/streamrec
ENV PATH=/opt/streamrec/bin:$PATH
# The heavy layer depends on the pinned versions only, not on the code.
COPY constraints.txt ./
RUN pip install -c constraints.txt --extra-index-url "$TORCH_INDEX_URL" torch
COPY pyproject.toml README.md LICENSE ./
COPY encoders encoders
COPY index index
COPY streams streams
COPY trainer trainer
RUN pip install -c constraints.txt . && pip uninstall -y pip

FROM python:3.11.14-slim-bookworm
# libgomp1: OpenMP for torch.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home streamrec \
    && install -d -o streamrec -g streamrec /bundles /var/cache/streamrec
COPY --from=build /opt/streamrec /opt/streamrec
ENV PATH=/opt/streamrec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/var/cache/streamrec \
    STREAMREC_MODEL__BUNDLES=/bundles \
    STREAMREC_WEB__HOST=0.0.0.0 \
    STREAMREC_WEB__PORT=8080
USER streamrec
WORKDIR /home/streamrec
# Compiled for the processor of the build; on another one the first start of a worker takes ten seconds more.
RUN python -c "from streams.pipeline import compile_loops; compile_loops()"
VOLUME /bundles
EXPOSE 8080
# Of a worker. Other roles serve no page: docker-compose.yml turns the check off for them.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["streamrec"]
CMD ["worker"]
