# Two images from one file:
#   docker build --target serve -t holdfast-serve .    answers requests; no torch
#   docker build --target watch -t holdfast-watch .    watches, evaluates and trains; with torch
# constraints.txt pins the packages (what CUDA's build of torch needs beside them, torch pins by
# itself); each image lists what is in it in /opt/holdfast/sbom.cdx.json.
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
    && install --directory --owner 10001 --group 0 --mode 0775 /state \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip*
WORKDIR /state

# pip (made by ensurepip) and what lists the packages stay here: /opt/holdfast, which the images get,
# has neither, nor the tests of others' packages (80 MB of SciPy and NumPy).
FROM base AS build-serve
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY constraints.txt pyproject.toml README* LICENSE* ./
RUN --mount=type=cache,target=/tmp/.cache/pip python -m venv /opt/build \
    && /opt/build/bin/pip install cyclonedx-python-lib \
    && python -m venv --without-pip /opt/holdfast
COPY deploy/images ./deploy/images
COPY models ./models
COPY monitoring ./monitoring
COPY service ./service
RUN --mount=type=cache,target=/tmp/.cache/pip \
    /opt/build/bin/pip --python /opt/holdfast/bin/python install ".[grpc,postgres,sign,tracing]" \
    && find /opt/holdfast -type d -name tests -prune -exec rm -r {} + \
    && /opt/build/bin/python deploy/images/sbom.py holdfast-serve /opt/holdfast

FROM build-serve AS build-watch
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=cache,target=/tmp/.cache/pip \
    /opt/build/bin/pip --python /opt/holdfast/bin/python install ".[grpc,postgres,sign,tracing,train]" \
    && find /opt/holdfast -type d -name tests -prune -exec rm -r {} + \
    && /opt/build/bin/python deploy/images/sbom.py holdfast-watch /opt/holdfast

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
