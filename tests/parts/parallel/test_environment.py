"""Variables set before MPI starts."""

import pytest

from app.parallel import environment

ONE_HOST = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
TWO_HOSTS = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}


@pytest.mark.parametrize(
    ("environ", "transports"),
    [
        ({}, "^ofi,tcp"),
        (ONE_HOST, "^ofi,tcp"),
        (TWO_HOSTS, "^ofi"),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_NODES": "1"}, "^ofi,tcp"),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_NODES": "2"}, "^ofi"),
        ({"PMIX_RANK": "0"}, "^ofi"),
    ],
)
def test_tcp_stays_wherever_there_may_be_several_hosts(environ, transports):
    environ = dict(environ)
    environment.prepare(environ)
    assert environ["OMPI_MCA_btl"] == transports


def test_the_all_reduce_is_chosen_on_one_host_only():
    for found, expected in ((ONE_HOST, True), (TWO_HOSTS, False)):
        environ = dict(found)
        environment.prepare(environ)
        assert ("OMPI_MCA_coll_tuned_allreduce_algorithm" in environ) == expected


def test_the_users_own_settings_stay():
    own = {"OMPI_MCA_btl": "tcp,self", "OMPI_MCA_mpi_yield_when_idle": "0", "HOROVOD_CYCLE_TIME": "7"}
    environ = own | {"OMP_NUM_THREADS": "3"}
    environment.prepare(environ)
    assert {name: environ[name] for name in own} == own
    assert environ["OMP_NUM_THREADS"] == "3"


def test_horovod_is_left_alone_when_it_is_not_used():
    environ = {}
    environment.prepare(environ, "mpi")
    assert not [name for name in environ if name.startswith("HOROVOD")]
    environment.prepare(environ, "horovod")
    assert "HOROVOD_CYCLE_TIME" in environ


def test_threads_are_not_set():
    environ = {}
    environment.prepare(environ)
    assert "OMP_NUM_THREADS" not in environ
