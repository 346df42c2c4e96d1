"""The machine: devices, processes, memory, and what each backend does best."""
