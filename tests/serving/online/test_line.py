import asyncio

from serving.event_log import LogEntry, LoggedEvent
from serving.online.line import Line
from serving.store import UserKey


def entry_of(position, user="ann", num_events=1):
    events = tuple(
        LoggedEvent(f"{position}-{number}", "film", 1.0, 0.0)
        for number in range(num_events)
    )
    return LogEntry(position, UserKey("adaptower", user), events)


def positions(lesson):
    return [entry.position for entry in lesson.entries]


def test_an_entry_that_is_delivered_again_is_held_once():
    async def run():
        line = Line()
        waiting = line.hold(entry_of(7))
        assert line.hold(entry_of(7)) is waiting
        assert line.num_entries == 1
        (user,) = line.take(2)
        assert positions(user.lesson()) == [7]
        # Out of line it is still known.
        assert line.hold(entry_of(7)) is waiting
        line.finish(user, {7}, None)
        assert line.num_entries == 0
        assert waiting.done()

    asyncio.run(run())


def test_what_came_meanwhile_waits_for_the_next_lesson():
    async def run():
        line = Line()
        first, second = line.hold(entry_of(1)), line.hold(entry_of(2))
        (user,) = line.take(1)
        third = line.hold(entry_of(3))
        line.finish(user, {1, 2}, None)
        assert [w.done() for w in (first, second, third)] == [True, True, False]
        assert line.take(2) == [user]
        assert positions(user.lesson()) == [3]

    asyncio.run(run())


def test_only_the_first_entries_are_let_go_of():
    async def run():
        line = Line()
        waiting = [line.hold(entry_of(position)) for position in (1, 2, 3)]
        (user,) = line.take(1)
        line.finish(user, {1, 3}, None)
        assert [each.done() for each in waiting] == [True, False, False]
        assert line.num_entries == 2

    asyncio.run(run())


def test_a_lesson_has_bounds_but_at_least_one_entry():
    async def run():
        line = Line()
        for position in range(3):
            line.hold(entry_of(position, num_events=600))
        (user,) = line.take(1)
        assert positions(user.lesson()) == [0]
        line.hold(entry_of(9, user="bob", num_events=2000))
        (bob,) = line.take(1)
        assert positions(bob.lesson()) == [9]

    asyncio.run(run())


def test_lessons_of_one_entry_each_come_in_order():
    async def run():
        line = Line()
        for position in range(50):
            line.hold(entry_of(position))
        seen = []
        while taken := line.take(1):
            lesson = taken[0].lesson(most_entries=1)
            seen += positions(lesson)
            line.finish(taken[0], positions(lesson), None)
        assert seen == list(range(50))

    asyncio.run(run())


def test_users_of_one_model_are_taken_together():
    async def run():
        line = Line()
        for position, (model, user) in enumerate(
            [("a", "ann"), ("b", "bob"), ("a", "cat"), ("b", "ann")]
        ):
            line.hold(LogEntry(position, UserKey(model, user), ()))
        taken = [line.take(9) for _ in range(3)]
        assert [[(u.key.model, u.key.user_id) for u in t] for t in taken] == [
            [("a", "ann"), ("a", "cat")],
            [("b", "bob"), ("b", "ann")],
            [],
        ]

    asyncio.run(run())
