#!/bin/sh
# The entrypoint of the image `airflow`: bootstrap.sh ROLE|COMMAND [ARGUMENT…]
#
# Everything is started by `exec`, so the signals of Kubernetes reach it. A component waits for the
# database and its migration by itself, after its imports (see windsock/runtime/migration.py).
set -eu

case "${1:-}" in
api-server)
    # Airflow opens the file for appending, and a mounted Secret cannot be written.
    if [ -n "${WINDSOCK_USERS_FILE:-}" ]; then
        umask 077
        cp -f "$WINDSOCK_USERS_FILE" "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
        umask 022
    fi
    exec python -m windsock.runtime.start "$@"
    ;;
dag-processor)
    # Left by a container of this pod that ended: the probe must see that of this one.
    rm -f "${WINDSOCK_DAG_PROCESSOR_SOCKET:-/run/windsock/dag-processor.sock}"
    exec python -m windsock.runtime.start "$@"
    ;;
scheduler)
    # The pod of a task: `${WINDSOCK_WORKER_…}` in it is filled in from the environment.
    if [ -n "${WINDSOCK_POD_TEMPLATE:-}" ]; then
        python -c 'import os, sys; print(os.path.expandvars(sys.stdin.read()))' \
            <"$WINDSOCK_POD_TEMPLATE" >"$AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"
    fi
    exec python -m windsock.runtime.start "$@"
    ;;
triggerer)
    exec python -m windsock.runtime.start "$@"
    ;;
migrate)
    exec python -m windsock.runtime.migration
    ;;
worker)
    shift
    exec python -m windsock.runtime.worker "$@"
    ;;
"")
    echo "bootstrap.sh: name a role (api-server, scheduler, dag-processor, triggerer, worker," \
        "migrate) or a command" >&2
    exit 2
    ;;
*)
    exec "$@"
    ;;
esac
