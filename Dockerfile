# Built in one stage with pip, run in another without: no compiler, no pip, no root.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/guardproxy
# What changes seldom comes first: what the build and the program need, each wheel checked against its hash.
COPY requirements-build.lock requirements.lock ./
RUN pip install --require-hashes --only-binary :all: -r requirements-build.lock
RUN pip --python /opt/guardproxy/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY guardproxy ./guardproxy
ARG REVISION=
RUN GUARDPROXY_COMMIT="${REVISION}" pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/guardproxy/bin/python install --no-deps /dist/guardproxy-*.whl

FROM python:${PYTHON}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="guardproxy" \
      org.opencontainers.image.description="A sidecar that guards calls to OpenAI-compatible model servers" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/guardproxy /opt/guardproxy
COPY config /etc/guardproxy
ENV PATH=/opt/guardproxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, not a name: Kubernetes can check runAsNonRoot only against a number.
USER 65532:65532
EXPOSE 8000 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/healthz', timeout=2)"]
ENTRYPOINT ["guardproxy"]
CMD ["run", "/etc/guardproxy/guardproxy.yaml"]
