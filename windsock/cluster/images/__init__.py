"""The images: what goes into them, their build, their registries."""
