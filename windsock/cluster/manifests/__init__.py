"""The manifests: rendered, compared, applied, removed."""
