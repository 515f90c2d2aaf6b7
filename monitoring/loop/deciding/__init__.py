"""What the loop decides by, and what it waits for: gathered from registry, jobs and labels."""
