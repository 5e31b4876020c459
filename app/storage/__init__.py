"""Files: the only room that opens HDF5."""
