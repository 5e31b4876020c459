"""Messages between stages: every rank is a stage of one pipeline."""

from pathlib import Path

import pytest
import torch

from app.learning.inbox import AHEAD, Inbox
from app.networks.shapes import Boundary
from app.parallel.links import Links, Message
from app.parallel.watchdog import Watchdog
from app.plan.pipelines.schedules import RECEIVE_ACTIVATIONS, Action

pytestmark = pytest.mark.mpi

SHAPES = ((1,), (3, 5), (0, 4), (7, 1, 3), (1000,), (17, 300))
TYPES = (torch.float32, torch.bfloat16, torch.int64, torch.float64, torch.complex64, torch.bool)
LARGE = (1 << 18, 3)  # 3 MB: far above what MPI sends before the other side asks


@pytest.fixture
def links(group):
    made = Links(group, torch.device("cpu"))
    yield made
    made.close()


def content(sender, receiver, tag, shape, dtype):
    """What the one sends the other: known to both."""
    make = torch.Generator().manual_seed(hash((sender, receiver, tag)) % 2**31)
    return (torch.randn(shape, generator=make, dtype=torch.float64) * 50).to(dtype)


def assorted():
    """Tag, shape and type of many messages."""
    return [(10 * i + j, shape, dtype) for i, shape in enumerate(SHAPES) for j, dtype in enumerate(TYPES)]


def send_all(links, group, messages):
    for tag, shape, dtype in messages:
        for receiver in range(group.size):
            links.send(content(group.rank, receiver, tag, shape, dtype), receiver, tag)


def post_all(links, group, messages):
    return [
        (sender, message, links.post(Message(sender, message[0], message[1], message[2])))
        for message in messages
        for sender in range(group.size)
    ]


def assert_right(links, group, posted):
    for sender, (tag, shape, dtype), receipt in posted:
        found = links.take(receipt)
        assert found.dtype == dtype
        assert torch.equal(found, content(sender, group.rank, tag, shape, dtype))


def test_any_shape_and_type_between_all_pairs(links, group):
    posted = post_all(links, group, assorted())
    send_all(links, group, assorted())
    assert_right(links, group, posted)
    links.finish()


def test_sent_before_anyone_asks(links, group):
    """Sends do not wait, not even large ones that nobody has asked for yet."""
    messages = [*assorted(), (999, LARGE, torch.float32)]
    send_all(links, group, messages)
    group.barrier()
    assert_right(links, group, post_all(links, group, messages))
    links.finish()


def test_messages_of_one_tag_keep_their_order(links, group):
    """Those of several tags may be taken in any order."""
    following, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    for number in range(20):
        for tag in (1, 2, 3):
            links.send(torch.tensor([100.0 * tag + number]), following, tag)
    for tag in (3, 1, 2):
        receipts = [links.post(Message(before, tag, (1,), torch.float32)) for _ in range(20)]
        assert [links.take(receipt).item() for receipt in receipts] == [100.0 * tag + n for n in range(20)]
    links.finish()


def test_a_message_is_there_once_it_was_sent(links, group):
    following, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    receipt = links.post(Message(before, 1, (3,), torch.float32))
    assert not links.arrived(receipt)
    group.barrier()
    links.send(torch.ones(3), following, 1)
    while not links.arrived(receipt):
        pass
    assert links.take(receipt).tolist() == [1.0] * 3
    links.finish()


@pytest.mark.parametrize(
    "of",
    [
        lambda values: values[:, ::2],
        lambda values: values.t(),
        lambda values: values[:1].expand(4, 6),
        lambda values: values.to(torch.complex64).mul(1j).conj(),
        lambda values: torch.complex(values, -values).conj().imag,
        lambda values: values.requires_grad_() * 2,
    ],
    ids=["strided", "transposed", "expanded", "conjugate", "negative", "of a graph"],
)
def test_tensors_of_any_layout_arrive_as_their_values(links, group, of):
    values = torch.arange(24.0).view(4, 6)
    sent = of(values + group.rank)
    wanted = of(values + (group.rank - 1) % group.size).detach().resolve_conj()
    receipt = links.post(Message((group.rank - 1) % group.size, 1, tuple(wanted.shape), wanted.dtype))
    links.send(sent, (group.rank + 1) % group.size, 1)
    found = links.take(receipt)
    assert not found.requires_grad
    assert torch.equal(found, wanted)
    links.finish()


def test_memory_is_used_again_but_not_while_it_is_looked_at(links, group):
    following, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    places, kept = set(), []
    for number in range(40):
        receipt = links.post(Message(before, 1, (50, 50), torch.float32))
        links.send(torch.full((50, 50), float(number)), following, 1)
        tensor = links.take(receipt)
        places.add(tensor.data_ptr())
        if number % 10 == 0:
            kept.append(tensor.view(-1)[1:])
        del tensor, receipt
    assert [view.unique().tolist() for view in kept] == [[0.0], [10.0], [20.0], [30.0]]
    assert len(places) <= len(kept) + 2
    links.finish()


@pytest.fixture
def inbox(links, group):
    """Of a pipeline with a chunk a stage, whose chunks hand on five numbers a sample."""
    boundaries = {chunk: Boundary((5,), torch.float32) for chunk in range(group.size)}
    watchdog = Watchdog(group.rank, group.size, "", Path(), 0, print, pytest.fail)
    return Inbox(links, boundaries, group.size, watchdog)


SIZES = tuple(range(1, 3 * AHEAD + 2))  # of microbatches: more messages than are asked for ahead


def receives(group):
    """What a stage gets in a batch: activations of each microbatch, but for the first stage."""
    numbers = range(len(SIZES)) if group.rank else ()
    return [Action(RECEIVE_ACTIVATIONS, group.rank, number) for number in numbers]


def send_on(inbox, group, number):
    if group.rank < group.size - 1:
        inbox.send_activations(torch.full((SIZES[number], 5), float(number)), group.rank)


def test_more_messages_than_are_asked_for_ahead(inbox, group):
    for _ in range(2):
        row = receives(group)
        inbox.begin(row, SIZES)
        for number in range(len(SIZES)):
            send_on(inbox, group, number)
        for action in row:
            found = inbox.take(action, lambda: False)
            assert torch.equal(found, torch.full((SIZES[action.microbatch], 5), float(action.microbatch)))
        inbox.finish()


@pytest.mark.mpi(min_size=2)
def test_there_is_work_while_a_message_is_on_its_way(inbox, group):
    """Stage s asks stage s - 1 to send only after it has been idle three times."""
    inbox.begin(receives(group), SIZES)
    calls = []

    def idle():
        calls.append(1)
        if len(calls) == 3:
            group.comm.send("go", group.rank - 1)
        return True

    if group.rank < group.size - 1:
        assert group.comm.recv(source=group.rank + 1) == "go"
    send_on(inbox, group, 0)
    if group.rank:
        inbox.take(receives(group)[0], idle)
        assert len(calls) >= 3
    for number in range(1, len(SIZES)):
        send_on(inbox, group, number)
    for action in receives(group)[1:]:
        inbox.take(action, lambda: False)
    inbox.finish()


@pytest.mark.mpi(min_size=2)
def test_out_of_work_it_waits(inbox, group):
    """`idle` is not asked again once it had nothing to do."""
    inbox.begin(receives(group), SIZES)
    calls = []

    def idle():
        calls.append(1)
        if len(calls) == 2:
            group.comm.send("go", group.rank - 1)
            return False
        return True

    if group.rank < group.size - 1:
        assert group.comm.recv(source=group.rank + 1) == "go"
    for number in range(len(SIZES)):
        send_on(inbox, group, number)
    for action in receives(group):
        inbox.take(action, idle if action.microbatch == 0 else lambda: False)
    assert len(calls) == (2 if group.rank else 0)
    inbox.finish()


@pytest.mark.mpi(min_size=2)
def test_a_receive_out_of_turn_is_refused(inbox, group):
    inbox.begin(receives(group), SIZES)
    if group.rank:
        with pytest.raises(AssertionError, match="is played"):
            inbox.take(Action(RECEIVE_ACTIVATIONS, group.rank, 5), lambda: False)
    for number in range(len(SIZES)):
        send_on(inbox, group, number)
    for action in receives(group)[1:]:  # the first was given up, and is on its way all the same
        inbox.take(action, lambda: False)
    inbox.finish()
