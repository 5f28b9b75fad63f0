# The example site in a container: docs/deployment.md says how to run it. To serve your own site, replace docs/example.
#
# BUILD has pip, and a Rust toolchain unless target/wheels holds a wheel for its CPython (`make wheels`); BASE is what the
# site runs on. The two have the same CPython.
ARG BUILD=rust:1-slim-trixie
ARG BASE=python:3.13-slim-trixie

FROM ${BUILD} AS wheel
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || { apt-get update && \
    apt-get install --yes --no-install-recommends python3-dev python3-venv; }
RUN python3 -m venv /pip
WORKDIR /source
COPY . .
RUN /pip/bin/pip download --quiet --no-deps --no-index --find-links target/wheels --dest /wheel Spawning || \
    /pip/bin/pip wheel --no-deps --wheel-dir /wheel .

FROM ${BASE} AS site
RUN python3 -m venv /venv
COPY docs/example /site
RUN /venv/bin/pip install --quiet -r /site/requirements.txt -r /site/requirements-postgresql.txt
COPY --from=wheel /wheel /wheel
RUN /venv/bin/pip install --quiet --no-deps /wheel/*.whl
# The demonstration's database, which fills the volume when that is new.
RUN mkdir -p /data/tmp && MYSITE_DATA=/data /venv/bin/python /site/manage.py prepare

FROM ${BASE}
COPY --from=site /venv /venv
COPY --from=site /site /site
COPY --from=site --chown=1000:1000 /data /data
# Everything that is written lies in the volume, so that the root may be read-only: the database, uploads, and bodies that
# are too large for memory while they arrive.
ENV PATH=/venv/bin:$PATH MYSITE_DATA=/data TMPDIR=/data/tmp
VOLUME /data
WORKDIR /site
USER 1000:1000
EXPOSE 8080
# A list, not a string: a shell in between would not hand on the TERM of `docker stop`.
CMD ["spawn", "--host", "0.0.0.0", "--port", "8080", "mysite.wsgi.application"]
