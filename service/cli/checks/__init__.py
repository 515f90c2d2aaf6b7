"""What a start needs, and what is wrong with a place: `holdfast doctor`."""
