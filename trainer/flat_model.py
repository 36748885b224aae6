"""A SavedModel that loads quickly: one graph without functions.

What `tf.saved_model.save` writes are functions of functions: of the signatures,
of the layers that Keras traces besides, of each lookup table's making and
filling. Whoever loads that into a session (TF Serving, the embedded model
server) instantiates each of them several times, while requests want the CPU.
So signatures are inlined and simplified once, at export. Names, types and
numbers of the signatures stay, variables and assets too.

Loaded with `tf.saved_model.load` the signatures are all there is; there was
never more to serve.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.grappler import tf_optimizer

from trainer.inlining import Inlined

_GRAPH_FILE = "saved_model.pb"
_DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
_INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTION = "saved_model_main_op"
_OPTIMIZERS = (
    "constfold",
    "arithmetic",
    "dependency",
    "common_subgraph_elimination",
)
_RESOURCES = ("HashTableV2", "VarHandleOp")


def flatten(folder: str, default: str) -> None:
    """Rewrites the graph of a SavedModel that was saved eagerly.

    Args:
        folder: The SavedModel; it must not be in use.
        default: Name of the signature that answers who names none.
    """
    path = Path(folder) / _GRAPH_FILE
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    signatures = meta_graph.signature_def
    # Saved under two names, it would be there twice.
    signatures[_DEFAULT].CopyFrom(signatures[default])
    _flatten(meta_graph, _digest(Path(folder)))
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    # It is the fingerprint of what was saved.
    (path.parent / "fingerprint.pb").unlink(missing_ok=True)


def _flatten(meta_graph: tf.compat.v1.MetaGraphDef, digest: str) -> None:
    # What fills the tables has a collection of its own as well; where there
    # are no functions it is looked for there.
    del meta_graph.signature_def[_INIT_SIGNATURE]
    inlined = Inlined(meta_graph.graph_def)
    for signature in meta_graph.signature_def.values():
        for info in signature.outputs.values():
            info.name = inlined.tensor(info.name)
    saver = meta_graph.saver_def
    saver.restore_op_name = _node(inlined.tensor(saver.restore_op_name))
    # The writing of checkpoints is left out, but the field must be filled.
    saver.save_tensor_name = saver.filename_tensor_name
    kept = _entrances(meta_graph)
    meta_graph.graph_def.CopyFrom(_optimized(inlined.graph_def, kept))
    _rename(meta_graph.graph_def, kept)
    _name_resources(meta_graph.graph_def, digest)
    # Functions are what it describes.
    meta_graph.ClearField("object_graph_def")


def _entrances(meta_graph: tf.compat.v1.MetaGraphDef) -> set[str]:
    """Names of the nodes that others know by name."""
    tensors = [
        info.name
        for signature in meta_graph.signature_def.values()
        for infos in (signature.inputs, signature.outputs)
        for info in infos.values()
    ]
    tensors += [asset.tensor_info.name for asset in meta_graph.asset_file_def]
    tensors += meta_graph.collection_def[_INIT_COLLECTION].node_list.value
    saver = meta_graph.saver_def
    tensors += [saver.restore_op_name, saver.filename_tensor_name]
    return set(map(_node, tensors))


def _optimized(
    graph_def: tf.compat.v1.GraphDef, kept: set[str]
) -> tf.compat.v1.GraphDef:
    """Leaves out what is not needed or is there twice; folds constants."""
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    fetches = meta_graph.collection_def["train_op"].node_list.value
    fetches.extend(sorted(kept))
    config = tf.compat.v1.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.optimizers.extend(_OPTIMIZERS)
    rewriting.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False)


def _rename(graph_def: tf.compat.v1.GraphDef, kept: set[str]) -> None:
    """Gives nodes short names: the path of calls is half of the graph."""
    names = {
        node.name: node.name if node.name in kept else f"n{number}"
        for number, node in enumerate(graph_def.node)
    }
    for node in graph_def.node:
        node.name = names[node.name]
        node.input[:] = [_renamed(each, names) for each in node.input]


def _renamed(tensor: str, names: Mapping[str, str]) -> str:
    mark = "^" if tensor[0] == "^" else ""
    node, colon, index = tensor.removeprefix("^").partition(":")
    return f"{mark}{names[node]}{colon}{index}"


def _name_resources(graph_def: tf.compat.v1.GraphDef, digest: str) -> None:
    """Keeps models apart that `tf.saved_model.load` loads in one process.

    There, variables and tables of one name are the same.
    """
    for node in graph_def.node:
        if node.op in _RESOURCES:
            name = node.attr["shared_name"].s or node.name.encode()
            node.attr["shared_name"].s = f"{digest}/".encode() + name


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
