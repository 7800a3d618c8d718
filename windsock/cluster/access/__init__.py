"""Ways into pods: exec, forwarded ports, logs."""
