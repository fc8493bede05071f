"""What `sagaflow run` is made of: a worker in this process, or several that are watched over."""
