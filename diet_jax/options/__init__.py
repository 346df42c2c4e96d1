"""Options as frozen dataclasses: checked, registered by name, written as JSON."""
