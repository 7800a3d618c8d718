# windsock itself with what it needs to deploy and test, for where no Python is: Okteto's installer.
#
# Its commands run in a checkout of the project, whose own windsock/ they use; the installed one gives
# pytest its plugin. By hand, from the project's folder:
#   docker build --file docker/toolkit.Dockerfile --tag windsock-toolkit:dev .
#
# Only what Docker's classic builder knows is used, as in docker/Dockerfile.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG KUBECTL_IMAGE=registry.k8s.io/kubectl:v1.34.2


FROM ${KUBECTL_IMAGE} AS kubectl


FROM ${PYTHON_IMAGE}
# Where packages come from, if not from PyPI.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV SSL_CERT_FILE=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt} \
    REQUESTS_CA_BUNDLE=${REQUESTS_CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt} \
    PIP_CERT=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt} \
    LANG=C.UTF-8 \
    PATH=/opt/toolkit/bin:$PATH
RUN useradd --uid 50000 --gid 0 --create-home toolkit
COPY docker/install.sh /opt/build/docker/
COPY docker/certs/ /usr/local/share/ca-certificates/windsock/
RUN sh /opt/build/docker/install.sh certificates
COPY --from=kubectl /bin/kubectl /usr/local/bin/kubectl
# The pinned packages. They change less often than windsock.
COPY requirements.txt /opt/build/
RUN cd /opt/build && python3 -m venv /opt/toolkit \
    && sed '/^-e/d' requirements.txt >packages.txt \
    && pip install --no-cache-dir --disable-pip-version-check --quiet --requirement packages.txt
COPY pyproject.toml README.md LICENSE /opt/build/
COPY windsock/ /opt/build/windsock/
RUN cd /opt/build && pip install --no-cache-dir --disable-pip-version-check --quiet --no-deps .
USER 50000:0
WORKDIR /home/toolkit
CMD ["invoke", "--list"]
