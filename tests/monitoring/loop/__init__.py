"""The loop under faults: its steps are real, its children cheap."""
