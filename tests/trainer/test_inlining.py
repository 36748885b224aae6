"""Graphs without functions against the functions they were made of."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import ExportError
from trainer.inlining import Inlined


def flat_run(function, *inputs):
    """What the inlined graph of a concrete function gives."""
    graph = tf.Graph()
    with graph.as_default():
        arguments = [tf.compat.v1.placeholder(i.dtype) for i in inputs]
        results = tf.nest.flatten(function(*arguments))
    inlined = Inlined(graph.as_graph_def())
    assert not inlined.graph_def.library.function
    assert not {n.op for n in inlined.graph_def.node} & {
        "PartitionedCall",
        "StatefulPartitionedCall",
    }
    flat = tf.Graph()
    with flat.as_default():
        tf.graph_util.import_graph_def(inlined.graph_def, name="")
    with tf.compat.v1.Session(graph=flat) as session:
        return session.run(
            [inlined.tensor(result.name) for result in results],
            {
                argument.name: value
                for argument, value in zip(arguments, inputs, strict=True)
            },
        )


@tf.function
def _spread(x, y):
    return x + y, x - y


@tf.function
def _nested(x, y):
    total, difference = _spread(x, y)
    again, _ = _spread(difference, total)
    return again * total, difference, x


def test_nested_calls_give_what_the_functions_give():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 3, 4)).astype(np.float32)
    expected = _nested(tf.constant(x), tf.constant(y))
    for got, want in zip(flat_run(_nested, x, y), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_gradients_of_calls_give_what_the_tape_gives():
    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(_nested(x, tf.sin(x))[0])
        return tape.gradient(y, x)

    x = np.linspace(-1.0, 1.0, 7, dtype=np.float32)
    (got,) = flat_run(gradient, x)
    np.testing.assert_allclose(got, gradient(tf.constant(x)), rtol=1e-6)


def test_an_output_that_is_an_input_is_passed_through():
    (got,) = flat_run(tf.function(lambda x: x), np.float32(3.0))
    assert got == 3.0


def flat_session(graph):
    inlined = Inlined(graph.as_graph_def())
    flat = tf.Graph()
    with flat.as_default():
        tf.graph_util.import_graph_def(inlined.graph_def, name="")
    return tf.compat.v1.Session(graph=flat)


def test_effects_of_calls_come_in_their_order():
    graph = tf.Graph()
    with graph.as_default():
        variable = tf.Variable(1.0)

        @tf.function
        def add(amount):
            variable.assign_add(amount)

        @tf.function
        def add_then_square(amount):
            add(amount)
            variable.assign(variable * variable)

        @tf.function
        def halve():
            variable.assign(0.5 * variable)

        def call(function, *arguments):
            function(*arguments)
            return next(
                operation
                for operation in reversed(graph.get_operations())
                if operation.type == "StatefulPartitionedCall"
            )

        first = call(add_then_square, tf.constant(2.0))
        with tf.control_dependencies([first]):
            second = call(halve)
        with tf.control_dependencies([second]):
            tf.identity(variable, name="after")
    with flat_session(graph) as session:
        for _ in range(20):
            session.run(variable.initializer.name)
            assert session.run("after:0") == 4.5


def test_a_branch_is_refused():
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32)
        tf.function(
            lambda x: tf.cond(x > 0.0, lambda: tf.sin(x), lambda: x * x)
        )(x)
    with pytest.raises(ExportError, match="If"):
        Inlined(graph.as_graph_def())
