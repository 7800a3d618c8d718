"""What a person types, one module a group. Each command reads its arguments and calls one flow."""
