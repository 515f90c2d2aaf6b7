"""What keeps a job going: steps that are kept, tried again and waited for, and turns."""
