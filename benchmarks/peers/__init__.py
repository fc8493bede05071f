"""One module for each peer, imported in the child process that measures it and nowhere else."""
