"""Graphs without functions: calls are replaced by what they call.

TensorFlow inlines, too, each time a session is made and each time a signature
first runs. Done once at export, nobody who loads the model has to.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.function_def_to_graph import (
    function_def_to_graph_def,
)

from trainer.errors import ExportError

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclasses.dataclass(frozen=True)
class _Body:
    """A function as nodes.

    Attributes:
        nodes: Its nodes; arguments are placeholders.
        arguments: Names of those, in order.
        results: Tensors that it returns, in order.
        effects: Nodes that have to run whatever is asked of it.
    """

    nodes: tuple[tf.compat.v1.NodeDef, ...]
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    effects: tuple[str, ...]


class Inlined:
    """A graph with the bodies of functions where they were called.

    Attributes:
        graph_def: The graph. Nodes of the top level keep their names, others
            are named `call/node`.
    """

    def __init__(self, graph_def: tf.compat.v1.GraphDef) -> None:
        """Inlines every call, however deeply nested.

        Args:
            graph_def: A graph without loops and branches, which would need
                their functions.

        Raises:
            ExportError: An operation needs a function.
        """
        self._library = {
            f.signature.name: f for f in graph_def.library.function
        }
        self._bodies: dict[str, _Body] = {}
        # What stands for a tensor that was a call's, or a placeholder's, and
        # for a call that others wait for.
        self._tensors: dict[str, str] = {}
        self._effects: dict[str, Iterable[str]] = {}
        self.graph_def = tf.compat.v1.GraphDef(versions=graph_def.versions)
        with tf.Graph().as_default():
            # Of a call, TensorFlow asks for what the call's function gives.
            tf.graph_util.import_graph_def(
                tf.compat.v1.GraphDef(
                    library=graph_def.library, versions=graph_def.versions
                )
            )
            self._expand(graph_def.node, "", {}, ())
        for node in self.graph_def.node:
            # Grappler knows a node's first tensor by the node's name alone.
            inputs = [
                self.tensor(i).removesuffix(":0")
                for i in node.input
                if i[0] != "^"
            ]
            waits = (i[1:] for i in node.input if i[0] == "^")
            ends = (end for name in waits for end in self._ends(name))
            node.input[:] = [*inputs, *dict.fromkeys(f"^{e}" for e in ends)]

    def tensor(self, name: str) -> str:
        """Returns the name that a tensor of the original graph has now."""
        name = _with_index(name)
        while name in self._tensors:
            name = self._tensors[name]
        return name

    def _expand(
        self,
        nodes: Iterable[tf.compat.v1.NodeDef],
        prefix: str,
        arguments: Mapping[str, str],
        before: Sequence[str],
    ) -> None:
        """Adds nodes.

        Args:
            nodes: Of the graph or of a function.
            prefix: Of their new names.
            arguments: What is passed, by the new names of placeholders.
            before: Control inputs that their effects have to wait for.
        """
        for node in nodes:
            name = prefix + node.name
            if name in arguments:
                self._tensors[f"{name}:0"] = arguments[name]
                continue
            inputs = [
                f"^{prefix}{i[1:]}" if i[0] == "^" else _with_index(prefix + i)
                for i in node.input
            ]
            if node.op in _CALLS:
                waits = [each for each in inputs if each[0] == "^"]
                self._call(
                    node.attr["f"].func.name, name, inputs, [*before, *waits]
                )
                continue
            if any(each.func.name for each in node.attr.values()):
                raise ExportError(
                    f"{name!r} is a {node.op}: only calls of functions can be "
                    "inlined, no loops or branches."
                )
            if op_def_registry.get(node.op).is_stateful:
                inputs += before
            added = self.graph_def.node.add()
            added.CopyFrom(node)
            added.name = name
            added.input[:] = inputs
            # Shapes and places, which were true of the function.
            for attribute in [a for a in node.attr if a[0] == "_"]:
                del added.attr[attribute]

    def _call(
        self,
        function: str,
        name: str,
        inputs: Iterable[str],
        before: Sequence[str],
    ) -> None:
        body = self._body(function)
        passed = (each for each in inputs if each[0] != "^")
        inside = f"{name}/"
        self._expand(
            body.nodes,
            inside,
            {
                inside + argument: each
                for argument, each in zip(body.arguments, passed, strict=True)
            },
            before,
        )
        results = [_with_index(inside + result) for result in body.results]
        for index, result in enumerate(results):
            self._tensors[f"{name}:{index}"] = result
        self._effects[name] = [
            *(inside + effect for effect in body.effects),
            *(_node_of(result) for result in results),
        ]

    def _body(self, name: str) -> _Body:
        if name not in self._bodies:
            function = self._library[name]
            graph_def, flat_names = function_def_to_graph_def(function)
            signature = function.signature
            self._bodies[name] = _Body(
                tuple(graph_def.node),
                tuple(each.name for each in signature.input_arg),
                tuple(
                    flat_names[function.ret[each.name]]
                    for each in signature.output_arg
                ),
                tuple(function.control_ret.values()),
            )
        return self._bodies[name]

    def _ends(self, name: str) -> Iterable[str]:
        """Yields the nodes that end when a node or call has ended."""
        if name in self._effects:
            for effect in self._effects[name]:
                yield from self._ends(effect)
        elif f"{name}:0" in self._tensors:
            yield _node_of(self.tensor(name))
        else:
            yield name


def _with_index(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _node_of(tensor: str) -> str:
    return tensor.partition(":")[0]
