"""What every `MetaStates` must do; subclass it per implementation."""

import threading

import numpy as np
import pytest

from serving.contract.errors import MetaStateError
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import MetaState
from serving.contract.meta_update import MetaProgress
from serving.online.meta_states import KEPT_RECORDS, MetaStates, roll_back

FINGERPRINT = "f00d"
_CONFIG = OnlineMetaConfig()


def progressed(number, progress=None, direction=1.0):
    """Some versions further than `progress`, or than an export."""
    progress = progress or MetaProgress.start(
        MetaState(np.zeros(2), np.zeros((1, 2)))
    )
    gradient = MetaGradient(direction * np.ones(2), np.ones((1, 2)), np.ones(1))
    for _ in range(number):
        step = progress.propose(gradient, _CONFIG)
        progress = progress.judge(step, np.ones(1), np.zeros(1), _CONFIG)
    return progress


class MetaStatesSuite:
    """Tests; subclasses say how to make the place.

    `make_states` called twice with the same folder gives two users of it.
    """

    @pytest.fixture
    def states(self, tmp_path):
        states = self.make_states(tmp_path)
        yield states
        states.close()
        states.close()

    def make_states(self, tmp_path) -> MetaStates:
        raise NotImplementedError

    def test_what_was_saved_is_loaded(self, states):
        assert states.load("m", FINGERPRINT) == (None, None)
        assert states.stamp("m", FINGERPRINT) is None
        stamp = states.save("m", FINGERPRINT, progressed(3), None)
        progress, loaded_stamp = states.load("m", FINGERPRINT)
        assert loaded_stamp == stamp == states.stamp("m", FINGERPRINT)
        assert progress.to_dict() == progressed(3).to_dict()

    def test_all_who_share_the_place_see_what_one_saved(self, tmp_path):
        one, other = self.make_states(tmp_path), self.make_states(tmp_path)
        one.save("m", FINGERPRINT, progressed(1), None)
        progress, stamp = other.load("m", FINGERPRINT)
        assert progress.to_dict() == progressed(1).to_dict()
        assert other.save("m", FINGERPRINT, progressed(2), stamp) is not None
        assert one.stamp("m", FINGERPRINT) != stamp
        assert one.load("m", FINGERPRINT)[0].current.version == 2
        one.close()
        other.close()

    def test_models_and_fixed_parts_do_not_mix(self, states):
        states.save("m", FINGERPRINT, progressed(1), None)
        for model, fingerprint in (("m", "beef"), ("n", FINGERPRINT)):
            assert states.load(model, fingerprint) == (None, None)

    @pytest.mark.parametrize("model", ["a/b", "..", "ü m", ".lock", '"], *'])
    def test_any_model_name_is_told_apart(self, states, model):
        states.save(model, FINGERPRINT, progressed(1), None)
        states.save("m", FINGERPRINT, progressed(2), None)
        assert states.load(model, FINGERPRINT)[0].current.version == 1
        assert states.known() == sorted(
            [(model, FINGERPRINT), ("m", FINGERPRINT)]
        )

    def test_who_did_not_see_the_newest_record_is_refused(self, states):
        first = states.save("m", FINGERPRINT, progressed(1), None)
        second = states.save("m", FINGERPRINT, progressed(2), first)
        assert states.save("m", FINGERPRINT, progressed(5), first) is None
        assert states.save("m", FINGERPRINT, progressed(5), None) is None
        assert states.load("m", FINGERPRINT)[0].current.version == 2
        assert states.save("m", FINGERPRINT, progressed(3), second) is not None

    def test_the_same_number_with_other_values_is_told_apart(self, states):
        """As two learn their version 3 at the same time."""
        start = states.save("m", FINGERPRINT, progressed(2), None)
        mine, theirs = (
            progressed(1, progressed(2), direction) for direction in (1, -1)
        )
        assert states.save("m", FINGERPRINT, mine, start) is not None
        assert states.save("m", FINGERPRINT, theirs, start) is None
        kept, _ = states.load("m", FINGERPRINT)
        assert kept.current.version == theirs.current.version == 3
        assert kept.current.same_values(mine.current)

    def test_records_saved_last_are_kept_and_a_models_others_go(self, states):
        """Each fixed part that is pushed has one; most of them are gone."""
        fingerprints = [f"{n:04x}" for n in range(KEPT_RECORDS + 3)]
        states.save("n", FINGERPRINT, progressed(1), None)
        stamps = [
            states.save("m", fingerprint, progressed(1), None)
            for fingerprint in fingerprints[:KEPT_RECORDS]
        ]
        # As after a rollback to it: the second is the oldest now.
        states.save("m", fingerprints[0], progressed(2), stamps[0])
        for fingerprint in fingerprints[KEPT_RECORDS:]:
            states.save("m", fingerprint, progressed(1), None)
        gone, kept = fingerprints[1:4], [fingerprints[0], *fingerprints[4:]]
        expected = [*(("m", each) for each in kept), ("n", FINGERPRINT)]
        assert states.known() == expected
        for model, fingerprint in expected:
            assert states.load(model, fingerprint)[0] is not None
        for fingerprint in gone:
            assert states.load("m", fingerprint) == (None, None)
            assert states.stamp("m", fingerprint) is None
        # Who goes on from a record that is gone is overtaken, and begins anew.
        assert states.save("m", gone[0], progressed(2), stamps[1]) is None
        assert states.save("m", gone[0], progressed(1), None) is not None

    def test_of_many_writers_nobody_overwrites_another(self, tmp_path):
        """Each adds steps, again whenever it was overtaken."""

        def add(number):
            states = self.make_states(tmp_path)
            while number:
                progress, stamp = states.load("m", FINGERPRINT)
                after = progressed(1, progress)
                number -= bool(states.save("m", FINGERPRINT, after, stamp))
            states.close()

        writers = [threading.Thread(target=add, args=(10,)) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        states = self.make_states(tmp_path)
        progress, _ = states.load("m", FINGERPRINT)
        states.close()
        assert progress.to_dict() == progressed(40).to_dict()

    def test_rolling_back_changes_the_record_for_good(self, states):
        stamp = states.save("m", FINGERPRINT, progressed(4), None)
        assert roll_back(states, "m", FINGERPRINT, 2).current.version == 2
        progress, rolled_back = states.load("m", FINGERPRINT)
        assert progress.current.version == 2
        # Whoever was taking a step meanwhile does not undo it.
        assert states.save("m", FINGERPRINT, progressed(5), stamp) is None
        further = progressed(1, progress)
        assert further.current.version == 5
        assert states.save("m", FINGERPRINT, further, rolled_back) is not None

    def test_rolling_back_to_what_is_not_there_is_refused(self, states):
        with pytest.raises(MetaStateError, match="nothing to roll back"):
            roll_back(states, "m", FINGERPRINT, 0)
        states.save("m", FINGERPRINT, progressed(2), None)
        with pytest.raises(MetaStateError, match=r"there are \[0, 1, 2\]"):
            roll_back(states, "m", FINGERPRINT, 7)
