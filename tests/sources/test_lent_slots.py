from streamseg.sources.lent_slots import SLOTS_PER_RELEASE, LentSlots
from streamseg.sources.messages import Release


def test_slots_of_former_jobs_count_until_they_are_given_back() -> None:
    lent = LentSlots()
    for job, ring in ((1, 0), (1, 1), (2, 0)):
        lent.lend(job, ring)
    assert (lent.total, lent.of_job(1), lent.of_job(2)) == (3, 2, 1)
    lent.end_job()
    lent.give_back(1, 1)
    assert (lent.total, lent.of_job(1), lent.of_job(2)) == (2, 1, 1)


def test_a_worker_is_told_ring_by_ring_in_messages_that_fit_its_socket() -> None:
    lent, slots = LentSlots(), range(SLOTS_PER_RELEASE + 1)
    for slot in slots:
        lent.tell_later(0, slot)
    lent.tell_later(1, 5)
    told = [lent.next_release(7) for _ in range(4)]
    assert told == [
        Release(7, tuple(slots[:-1]), 0),
        Release(7, (slots[-1],), 0),
        Release(7, (5,), 1),
        None,
    ]


def test_nothing_is_told_of_a_job_that_is_over() -> None:
    lent = LentSlots()
    lent.tell_later(0, 3)
    lent.end_job()
    assert lent.next_release(1) is None
