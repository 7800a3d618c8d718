"""The Kubernetes API: connection, client, watches, leases."""
