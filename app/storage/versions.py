"""Which HDF5 is here, and which compressed files it can read."""

from importlib import metadata

from app.report.finding import Finding


def examine() -> list[Finding]:
    """h5py, HDF5 and its filters. Collective over: none."""
    try:
        import h5py
    except ImportError as error:
        return [Finding("HDF5", f"h5py cannot be imported: {error}", "make install", serious=True)]
    version = f"{h5py.version.hdf5_version}, h5py {h5py.__version__}"
    standard = {"gzip": h5py.h5z.FILTER_DEFLATE, "shuffle": h5py.h5z.FILTER_SHUFFLE, "szip": h5py.h5z.FILTER_SZIP}
    there = [name for name, code in standard.items() if h5py.h5z.filter_avail(code)]
    missing = [name for name in ("gzip", "shuffle") if name not in there]
    found = [Finding("HDF5", f"{version}; filters {', '.join(there)}")]
    if missing:
        advice = "install the h5py of PyPI (make install); files compressed so cannot be read"
        found = [Finding("HDF5", f"{version}; without the filters {', '.join(missing)}", advice)]
    return [*found, _more_filters()]


def _more_filters() -> Finding:
    subject = "HDF5 filters"
    try:
        import hdf5plugin
    except (ImportError, OSError) as error:
        advice = "pip install hdf5plugin, to read files compressed with zstd, lz4, blosc, ..."
        return Finding(subject, f"hdf5plugin cannot be imported: {error}", advice)
    names = sorted(hdf5plugin.get_config().registered_filters)
    return Finding(subject, f"hdf5plugin {metadata.version('hdf5plugin')}: {', '.join(names)}")
