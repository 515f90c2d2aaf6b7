# Two images from one file:
#   docker build --target serve -t holdfast-serve .    answers requests; no torch
#   docker build --target watch -t holdfast-watch .    watches, evaluates and trains; with torch
# PIP_EXTRA_INDEX_URL may name an index with CPU-only wheels of torch, which are far smaller than
# the default's.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/holdfast/bin:$PATH \
    HOME=/tmp \
    HOLDFAST_STATE=/state \
    HOLDFAST_HOST=0.0.0.0 \
    HOLDFAST_PORT=8080 \
    HOLDFAST_WATCH_HOST=0.0.0.0 \
    HOLDFAST_WATCH_PORT=9108
# A volume mounted on /state for the first time takes over this owner. Group 0 may write there: some
# platforms (OpenShift) run every container as a user of their own choice in that group.
RUN groupadd --gid 10001 holdfast \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin holdfast \
    && install --directory --owner 10001 --group 0 --mode 0775 /state
WORKDIR /state

FROM base AS build-serve
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/holdfast
COPY pyproject.toml README* LICENSE* ./
COPY models ./models
COPY monitoring ./monitoring
COPY service ./service
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/tmp/.cache/pip pip install ".[grpc,postgres,sign,tracing]"

FROM build-serve AS build-watch
ARG PIP_EXTRA_INDEX_URL=
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/tmp/.cache/pip pip install ".[grpc,postgres,sign,tracing,train]"

FROM base AS watch
COPY --from=build-watch /opt/holdfast /opt/holdfast
USER 10001:10001
EXPOSE 9108
# That the process lives, not whether it looks (/readyz): whoever restarts what is unhealthy would
# end a training. A machine that trains on all cores is slow to answer, hence the patience.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=5 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HOLDFAST_WATCH_PORT'] + '/healthz', timeout=8)"]
CMD ["holdfast", "watch"]

FROM base AS serve
COPY --from=build-serve /opt/holdfast /opt/holdfast
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HOLDFAST_PORT'] + '/healthz', timeout=2)"]
CMD ["holdfast", "serve"]
