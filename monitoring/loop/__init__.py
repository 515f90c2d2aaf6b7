"""From an event to a promoted version: triggers, jobs, steps, lifecycle."""
