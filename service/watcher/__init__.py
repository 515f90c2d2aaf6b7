"""What the watcher is asked, and what a person changes through it."""
