"""The dashboards, a file for each: what a person decides by it, and its panels."""
