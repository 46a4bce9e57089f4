"""Images on disk: building, drawing, reading and ordering a training set."""
