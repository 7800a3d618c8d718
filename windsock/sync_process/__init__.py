"""The supervised process of an environment: it syncs saves and answers the commands."""
