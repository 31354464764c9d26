FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM python:3.13.16-slim-trixie AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY requirements.lock /tmp/
RUN uv venv --no-project /opt/venv \
 && VIRTUAL_ENV=/opt/venv uv pip sync --require-hashes --no-build /tmp/requirements.lock
WORKDIR /srv
COPY pyproject.toml entrypoint.sh *.py ./
COPY migrations migrations
COPY app app
# Readable for every user, because the checkout's umask may be stricter. Compiled now, because the containers
# have a read-only root.
RUN chmod -R a+rX . && chmod a+rx entrypoint.sh && python3 -m compileall -q .

FROM python:3.13.16-slim-trixie
RUN apt-get update \
 && apt-get install -y --no-install-recommends netcat-openbsd \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
COPY --from=uv /uv /usr/local/bin/uv
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv /srv
# `uv run` uses the environment as it is: it locks nothing, downloads nothing and writes only to /tmp.
ENV PATH=/opt/venv/bin:$PATH \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_NO_SYNC=1 \
    UV_OFFLINE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_CACHE_DIR=/tmp/uv \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER 1000:1000
ENTRYPOINT ["/srv/entrypoint.sh"]
CMD ["python", "main.py"]
