import pytest

from serving.in_parts import in_parts


class FullError(Exception):
    pass


class Shelf:
    """What is on it can be taken if there is as much room to put it down."""

    def __init__(self, things, room):
        self.things = set(things)
        self.room = room
        self.steps = []

    def take(self, part):
        self.steps.append(len(part))
        if sum(part) > self.room:
            raise FullError
        self.things -= set(part)
        self.room += sum(part)
        return len(part)


def test_all_is_done_at_once_if_there_is_room():
    shelf = Shelf(range(1, 9), room=100)
    assert in_parts(shelf.take, range(1, 9), FullError) == 8
    assert shelf.steps == [8]


def test_little_room_is_enough_if_what_is_taken_makes_more():
    shelf = Shelf(range(1, 9), room=1)
    assert in_parts(shelf.take, range(1, 9), FullError) == 8
    assert not shelf.things
    assert len(shelf.steps) < 16


def test_what_there_is_no_room_for_stays_and_holds_no_other_up():
    shelf = Shelf([90, 1, 2, 80], room=2)
    assert in_parts(shelf.take, [90, 1, 2, 80], FullError) == 2
    assert shelf.things == {90, 80}


def test_no_room_for_any_is_an_error():
    shelf = Shelf([7, 8, 9], room=2)
    with pytest.raises(FullError):
        in_parts(shelf.take, [7, 8, 9], FullError)
    assert shelf.things == {7, 8, 9}


def test_nothing_is_nothing():
    assert in_parts(Shelf([], room=0).take, [], FullError) == 0
