"""Ranks, groups of ranks, gradient sums and the guards against hanging: the only room that knows MPI and Horovod."""
