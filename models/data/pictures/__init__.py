"""Pictures: how files become pixels, their sizes and their range; shared with serving."""
