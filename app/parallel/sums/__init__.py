"""Sums of gradients over the ranks of a group, by Horovod or by MPI."""
