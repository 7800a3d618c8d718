#!/bin/sh
# The entrypoint of the image `postgres`: makes the data folder if there is none, then becomes the
# server. Its settings and roles are those of the local target (windsock/local/postgres.py).
set -eu

folder=${POSTGRES_FOLDER:-/var/lib/postgresql}
data=$folder/data
fresh=$folder/data.new

# A string as SQL writes it; standard_conforming_strings is on by default.
literal() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

# Run SQL from standard input, a statement a line, without a server that others could reach.
alone() {
    # No password in the log, ever. What it prints is its prompt; errors go to stderr.
    postgres --single -D "$1" -j -c exit_on_error=on -c log_min_error_statement=panic \
        -c log_checkpoints=off postgres >/dev/null
}

make_data() {
    rm -rf "$fresh"
    umask 077
    printf '%s\n' "$POSTGRES_OWNER_PASSWORD" >"$folder/.password"
    initdb --pgdata="$fresh" --username=postgres --pwfile="$folder/.password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 \
        --locale=C --no-instructions --no-sync
    rm -f "$folder/.password"
    echo 'host all all all scram-sha-256' >>"$fresh/pg_hba.conf"
    for name in airflow warehouse; do
        printf '%s;\n\n' "create role $name login" "create database $name owner $name" \
            "revoke connect on database $name from public"
    done | alone "$fresh"
    sync
    mv "$fresh" "$data" # whole, or not at all
}

# The passwords are those of the Secret, also after it was replaced.
set_passwords() {
    {
        printf 'alter role postgres password %s;\n\n' "$(literal "$POSTGRES_OWNER_PASSWORD")"
        printf 'alter role airflow password %s;\n\n' "$(literal "$POSTGRES_AIRFLOW_PASSWORD")"
        printf 'alter role warehouse password %s;\n\n' "$(literal "$POSTGRES_WAREHOUSE_PASSWORD")"
    } | alone "$data"
}

[ -d "$data" ] || make_data
# A volume's fsGroup opens the files to the group; PostgreSQL refuses a folder that is open to it.
chmod 0700 "$data"
# Of a server that was killed: its process id may be another process of this pod by now. That no
# second server has the volume is the StatefulSet's promise.
rm -f "$data/postmaster.pid"
set_passwords
unset POSTGRES_OWNER_PASSWORD POSTGRES_AIRFLOW_PASSWORD POSTGRES_WAREHOUSE_PASSWORD

exec postgres -D "$data" \
    -c listen_addresses='*' \
    -c unix_socket_directories=/tmp \
    -c max_connections=200 \
    -c shared_buffers=64MB \
    -c fsync=on \
    -c synchronous_commit=off \
    -c wal_level=minimal \
    -c max_wal_senders=0 \
    -c max_wal_size=256MB \
    -c jit=off \
    -c timezone=UTC \
    -c log_timezone=UTC \
    -c log_line_prefix='%m [%p] '
