"""What people see at `/` and `/docs`."""
